// The suite's origin, on loopback only: by itself it listens on every interface.
import net from 'node:net'

const listen = net.Server.prototype.listen
net.Server.prototype.listen = function (port, ...rest) {
  const whenReady = rest.filter(part => typeof part === 'function')
  return listen.call(this, { port: Number(port), host: '127.0.0.1' }, ...whenReady)
}

await import('http-cache-tests/server/server.mjs')
