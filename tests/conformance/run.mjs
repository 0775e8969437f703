// Runs the public HTTP cache tests, or only the tests with the given ids, against the cache at BASE. Prints
// a JSON object with an entry for each test: its id, and { kind, passed, why }.
//
//     node run.mjs BASE [ID ...]
import fetch from 'node-fetch'
import { getResults, runTests } from 'http-cache-tests/client/runner.mjs'
import suites from 'http-cache-tests/tests/index.mjs'

const [base, ...ids] = process.argv.slice(2)
const chosen = suites
  .map(suite => ({ ...suite, tests: suite.tests.filter(test => !ids.length || ids.includes(test.id)) }))
  .filter(suite => suite.tests.length)

await runTests(chosen, fetch, false, base)

const results = getResults()
const report = {}
for (const test of chosen.flatMap(suite => suite.tests)) {
  const result = results[test.id]
  if (result !== undefined) {
    report[test.id] = { kind: test.kind ?? 'required', passed: result === true, why: String(result) }
  }
}
process.stdout.write(JSON.stringify(report), () => process.exit(0))
