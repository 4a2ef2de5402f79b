// Calls demo.v1.Words from a page, by the protocol that was chosen.
import { Code, ConnectError, createClient } from '@connectrpc/connect'
import { createConnectTransport, createGrpcWebTransport } from '@connectrpc/connect-web'

import { Words } from './build/gen/demo/v1/words_pb.js'
import { ResourceInfoSchema } from './build/gen/google/rpc/error_details_pb.js'

const field = (id) => document.getElementById(id)
const say = (line) => (field('output').textContent += `${line}\n`)

function words() {
  const baseUrl = field('gateway').value
  const protocol = field('protocol').value
  if (protocol === 'grpc-web') return createClient(Words, createGrpcWebTransport({ baseUrl }))
  const transport = createConnectTransport({ baseUrl, useBinaryFormat: protocol === 'connect', useHttpGet: true })
  return createClient(Words, transport)
}

const calls = {
  // One message there, one back.
  async count(options) {
    const { words: count } = await words().count({ text: field('text').value }, options)
    say(`${count} words`)
  },

  // For a word that nobody has defined: a failure with a detail.
  async lookup(options) {
    const { definition } = await words().lookup({ word: field('text').value }, options)
    say(definition)
  },

  // A minute, so that the deadline passes.
  async ponder(options) {
    const { attempt } = await words().ponder({ time: { seconds: 60n } }, options)
    say(`attempt ${attempt}`)
  },

  // One message there, many back, as they come.
  async split(options) {
    for await (const { word } of words().split({ text: field('text').value }, options)) say(word)
    say('that was all')
  },
}

let running = new AbortController()

async function call(name) {
  running = new AbortController()
  field('output').textContent = ''
  const metadata = (kind) => (headers) => headers.forEach((value, key) => key.startsWith('x-') && say(`${kind} ${key}: ${value}`))
  try {
    await calls[name]({
      timeoutMs: Number(field('deadline').value),
      signal: running.signal,
      headers: { 'x-from': 'page' },
      onHeader: metadata('header'),
      onTrailer: metadata('trailer'),
    })
  } catch (failure) {
    const error = ConnectError.from(failure)
    say(`${Code[error.code]}: ${error.rawMessage}`)
    for (const { resourceType, resourceName } of error.findDetails(ResourceInfoSchema)) {
      say(`ResourceInfo: ${resourceType} ${resourceName}`)
    }
  }
}

field('form').addEventListener('submit', (event) => {
  event.preventDefault()
  call(event.submitter.id)
})
field('cancel').addEventListener('click', () => running.abort())
