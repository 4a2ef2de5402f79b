// The four kinds of call, against demo.v1.Words.
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

import grpc from '@grpc/grpc-js'
import protoLoader from '@grpc/proto-loader'

const TEXT = 'to be or not to be'
const PROTOS = fileURLToPath(new URL('../../../protos', import.meta.url))

const { demo } = grpc.loadPackageDefinition(
  protoLoader.loadSync('demo/v1/words.proto', { includeDirs: [PROTOS] }),
)
const [address = '127.0.0.1:50051'] = process.argv.slice(2)
const words = new demo.v1.Words(address, grpc.credentials.createInsecure())
const options = () => ({ deadline: Date.now() + 10_000 })

// One message there, one back.
async function count() {
  const response = await promisify(words.Count).call(words, { text: TEXT }, options())
  return response.words
}

// A failure: its code and its message.
async function lookup() {
  try {
    await promisify(words.Lookup).call(words, { word: 'xylophone' }, options())
  } catch (error) {
    if (error.code !== grpc.status.NOT_FOUND) throw error
    return `${grpc.status[error.code]} ${error.details}`
  }
  throw new Error('the word is known')
}

// One message there, many back.
async function split() {
  const found = []
  for await (const { word } of words.Split({ text: TEXT }, options())) found.push(word)
  return found.join(' ')
}

// Many messages there, one back.
async function join() {
  const response = await new Promise((resolve, reject) => {
    const stream = words.Join(options(), (error, response) => (error ? reject(error) : resolve(response)))
    for (const word of TEXT.split(' ')) stream.write({ word })
    stream.end()
  })
  return response.text
}

// Many there, many back: each word is sent when the one before it has come back.
async function echo() {
  const stream = words.Echo(options())
  const echoes = stream[Symbol.asyncIterator]()
  const back = []
  for (const word of TEXT.split(' ')) {
    stream.write({ word })
    const { value, done } = await echoes.next()
    if (done) throw new Error('less came back than was sent')
    back.push(value.word)
  }
  stream.end()
  if (!(await echoes.next()).done) throw new Error('more came back than was sent')
  return back.join(' ')
}

for (const [name, call] of Object.entries({ Count: count, Lookup: lookup, Split: split, Join: join, Echo: echo })) {
  try {
    console.log(`${name}: ${await call()}`)
  } catch (error) {
    console.error(`${name} failed: ${error.message}`)
    process.exitCode = 1
    break
  }
}
words.close()
