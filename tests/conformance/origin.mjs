// Starts the origin of the suite on the loopback interface. Without this file it listens on all interfaces.
import net from 'node:net'

const listen = net.Server.prototype.listen
net.Server.prototype.listen = function (port, ...rest) {
  const whenReady = rest.filter(part => typeof part === 'function')
  return listen.call(this, { port: Number(port), host: '127.0.0.1' }, ...whenReady)
}

await import('http-cache-tests/server/server.mjs')
