// Loki's clients for Node push to the server whose HTTP address is the argument:
// winston-loki in protobuf and in JSON, pino-loki in JSON. Exits with 0 once all lines
// can be read.
import winston from 'winston'
import LokiTransport from 'winston-loki'
import { pinoLoki } from 'pino-loki'

const host = `http://${process.argv[2]}`
const fail = err => {
  console.error(err)
  process.exit(1)
}
// A client that waits for ever is a failure, too.
setTimeout(() => fail(new Error('not done after two and a half minutes')), 150_000).unref()

for (const [name, json] of [['winston-protobuf', false], ['winston-json', true]]) {
  const transport = new LokiTransport({
    host, json, batching: true, interval: 1, labels: { app: name }, useWinstonMetaAsLabels: false,
    gracefulShutdown: false, timeout: 30_000, onConnectionError: fail,
    format: winston.format.printf(info => info.message)
  })
  const logger = winston.createLogger({ transports: [transport] })
  for (let i = 0; i < 3; i++) {
    logger.warn({ message: `line ${i} of ${name}`, labels: { tag: 'a b' } })
  }
  await new Promise(resolve => setImmediate(resolve))
  await transport.flush()
}

const stream = pinoLoki({
  host, labels: { app: 'pino' }, batching: { interval: 1 }, timeout: 30_000,
  propsToLabels: ['hostname'], silenceErrors: false
})
for (let i = 0; i < 3; i++) {
  const record = { level: 40, time: Date.now() + i, pid: 1, hostname: 'h1', msg: `line ${i} of pino` }
  stream.write(JSON.stringify(record) + '\n')
}
stream.on('error', fail)
stream.end()

const query = new URLSearchParams({ query: 'sum by (app) (count_over_time({app=~"winston-.*|pino"}[1h]))' })
for (;;) {
  const answer = await (await fetch(`${host}/loki/api/v1/query?${query}`)).json()
  const counts = Object.fromEntries(answer.data.result.map(r => [r.metric.app, r.value[1]]))
  if (['winston-protobuf', 'winston-json', 'pino'].every(app => counts[app] === '3')) {
    process.exit(0)
  }
  await new Promise(resolve => setTimeout(resolve, 50))
}
