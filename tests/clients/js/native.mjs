// The official `ollama` client for JavaScript against a running gateway. One part per run, named on the command line.
import assert from 'node:assert/strict'
import { Ollama } from 'ollama'
import { ANIMAL, BASE, BLUE, HASTY, KEY, QUESTION, RED, SNOW, THROTTLED, TOOLS, WEATHER } from './part.mjs'
import { all, isAnimal, leaveUnanswered, refused, run, say, told } from './part.mjs'

const SHORT = { num_predict: 12 }
const byHeader = (key = KEY) => new Ollama({ host: BASE, headers: { Authorization: `Bearer ${key}` } })
const byPath = (key = KEY) => new Ollama({ host: `${BASE}/k/${key}` })

/** The error of a call that must fail with this status. */
async function status(code, call) {
  const error = await refused(Error, call)
  assert.equal(error.status_code, code, error.stack)
  assert.equal(typeof error.error, 'string', 'a text to read')
  return error
}

async function talks(client) {
  const ask = { model: 'gemma:a', messages: QUESTION, options: SHORT }
  const once = await client.chat(ask)
  assert.equal(once.done_reason, 'length')
  assert.equal(once.eval_count, 12)
  assert.equal(once.message.role, 'assistant')
  assert.ok(once.message.content && once.total_duration > 0 && once.prompt_eval_count > 0, JSON.stringify(once))

  const pieces = await all(await client.chat({ ...ask, stream: true }))
  assert.ok(pieces.length > 3 && pieces.slice(0, -1).every((piece) => piece.done === false), JSON.stringify(pieces))
  assert.equal(pieces.at(-1).eval_count, 12)
  assert.equal(pieces.map((piece) => piece.message.content).join(''), once.message.content, 'streamed as at once')

  const generated = await client.generate({ model: 'gemma:a', prompt: 'Why?', options: SHORT })
  assert.ok(generated.response && generated.done && generated.context.length, JSON.stringify(generated))
  const parts = await all(await client.generate({ model: 'gemma:a', prompt: 'Why?', options: SHORT, stream: true }))
  assert.equal(parts.map((part) => part.response).join(''), generated.response, 'streamed as at once')
  assert.deepEqual(parts.at(-1).context, generated.context)
}

async function tools(client) {
  const ask = { model: 'tooly', messages: WEATHER, tools: TOOLS }
  const once = await client.chat(ask)
  assert.deepEqual(once.message.tool_calls.map((call) => call.function.arguments), [{ city: 'Paris' }])
  assert.equal(once.message.tool_calls[0].function.name, 'get_weather')
  const pieces = await all(await client.chat({ ...ask, stream: true }))
  const calls = pieces.flatMap((piece) => piece.message.tool_calls ?? [])
  assert.deepEqual(calls.map((call) => call.function.arguments), [{ city: 'Paris' }])
  const result = { role: 'tool', tool_name: 'get_weather', content: 'sunny' }
  const turns = { ...ask, messages: [...WEATHER, once.message, result] }
  assert.ok((await client.chat(turns)).done)
  assert.ok((await all(await client.chat({ ...turns, stream: true }))).at(-1).done)
}

async function shapes(client) {
  isAnimal((await client.chat({ model: 'gemma:a', messages: QUESTION, format: ANIMAL })).message.content)
  const pieces = await all(await client.generate({ model: 'gemma:a', prompt: 'x', format: ANIMAL, stream: true }))
  isAnimal(pieces.map((piece) => piece.response).join(''))
  const json = await client.chat({ model: 'gemma:a', messages: QUESTION, format: 'json' })
  assert.equal(typeof JSON.parse(json.message.content), 'object')
}

async function embeds(client) {
  const one = await client.embed({ model: 'tinybert', input: 'a' })
  const two = await client.embed({ model: 'tinybert', input: ['a', 'b'] })
  assert.equal(one.embeddings[0].length, 64)
  assert.deepEqual(two.embeddings[0], one.embeddings[0])
  assert.notDeepEqual(two.embeddings[1], one.embeddings[0])
  assert.equal((await client.embed({ model: 'tinybert', input: 'a', dimensions: 8 })).embeddings[0].length, 8)
  assert.equal((await client.embeddings({ model: 'tinybert', prompt: 'a' })).embedding.length, 64)
}

async function thinks(client) {
  const ask = { model: 'thinky', messages: SNOW, think: true }
  const { message } = await client.chat(ask)
  assert.equal(message.thinking, 'Snow is white, so it is white.')
  assert.equal(message.content, 'Yes, snow is white.\n')
  const pieces = await all(await client.chat({ ...ask, stream: true }))
  assert.equal(pieces.map((piece) => piece.message.thinking ?? '').join(''), message.thinking)
  assert.equal(pieces.map((piece) => piece.message.content ?? '').join(''), message.content)
  const silent = await client.chat({ ...ask, think: false })
  assert.ok(!silent.message.thinking)
  const generated = await client.generate({ model: 'thinky', prompt: 'Is snow white?', think: true })
  assert.deepEqual([generated.thinking, generated.response], [message.thinking, message.content])
  const error = await status(400, () => client.chat({ ...ask, model: 'gemma:a' }))
  assert.match(error.message, /thinking/)
}

async function sees(client) {
  const looksAt = (picture) => [{ ...QUESTION[0], images: [picture] }]
  const blind = await client.chat({ model: 'seer', messages: QUESTION, options: SHORT })
  const texts = [blind.message.content]
  for (const picture of [BLUE, RED]) {
    const ask = { model: 'seer', messages: looksAt(picture), options: SHORT }
    const once = await client.chat(ask)
    assert.ok(once.prompt_eval_count > blind.prompt_eval_count + 100, 'a picture is tokens too')
    const pieces = await all(await client.chat({ ...ask, stream: true }))
    assert.equal(pieces.map((piece) => piece.message.content).join(''), once.message.content, 'streamed as at once')
    texts.push(once.message.content)
  }
  assert.equal(new Set(texts).size, 3, 'it sees what is different')
  const bytes = new Uint8Array(Buffer.from(BLUE, 'base64'))
  const raw = await client.chat({ model: 'seer', messages: looksAt(bytes), options: SHORT })
  assert.equal(raw.message.content, texts[1])
  const ask = { model: 'seer', prompt: 'What is it?', images: [bytes], options: SHORT }
  assert.ok((await client.generate(ask)).response)

  for (const stream of [false, true]) {
    const error = await refused(Error, () => client.chat({ model: 'gemma:a', messages: looksAt(BLUE), stream }))
    assert.equal(error.status_code, 400)
    assert.match(error.message, /does not support multimodal requests/)
  }
  assert.match((await status(400, () => client.chat({ model: 'seer', messages: looksAt('%%%%') }))).message, /base64/)
}

async function lists(client) {
  const names = (await client.list()).models.map((model) => model.model)
  assert.ok(names.includes('gemma:a') && !names.includes('stamped:latest'), `not this application's: ${names}`)
  const shown = await client.show({ model: 'tooly' })
  assert.deepEqual(shown.capabilities, ['completion', 'tools'])
  assert.ok(shown.details.family && shown.model_info['general.architecture'], JSON.stringify(shown.details))
  const loaded = (await client.ps()).models
  assert.ok(loaded.some((model) => model.model === 'gemma:a' && model.size > 0), JSON.stringify(loaded))
  assert.ok((await client.version()).version)
}

async function refusals() {
  for (const client of [byHeader('gk_nothing'), byPath('gk_nothing'), new Ollama({ host: BASE })]) {
    for (const call of [
      () => client.list(),
      () => client.ps(),
      () => client.show({ model: 'gemma:a' }),
      () => client.chat({ model: 'gemma:a', messages: QUESTION }),
      () => client.chat({ model: 'gemma:a', messages: QUESTION, stream: true }),
      () => client.embed({ model: 'tinybert', input: 'a' }),
    ]) {
      const error = await status(403, call)
      assert.match(error.message, /key/)
      assert.doesNotMatch(error.message, /gk_nothing/, "a key in an error's text")
    }
  }
  const client = byHeader()
  for (const call of [
    () => client.chat({ model: 'nowhere', messages: QUESTION }),
    () => client.generate({ model: 'nowhere', prompt: 'x', stream: true }),
    () => client.show({ model: 'nowhere' }),
    () => client.embed({ model: 'nowhere', input: 'x' }),
  ]) {
    assert.match((await status(404, call)).message, /nowhere/)
  }
  const ask = { model: 'gemma:a', messages: QUESTION }
  for (const [name, value] of [['temperature', 'hot'], ['num_predict', 'many'], ['stop', 7]]) {
    for (const stream of [false, true]) {
      const error = await status(400, () => client.chat({ ...ask, options: { [name]: value }, stream }))
      assert.ok(error.message.includes(name), error.message)
    }
  }
  assert.match((await status(400, () => client.chat({ ...ask, tools: TOOLS }))).message, /does not support tools/)
  assert.match((await status(403, () => client.chat({ model: 'stamped', messages: QUESTION }))).message, /stamped/)
  assert.match((await status(403, () => client.pull({ model: 'gemma:a' }))).message, /ollama pull/)
  assert.match((await status(403, () => client.delete({ model: 'gemma:a' }))).message, /ollama rm/)
  const { seen, client: throttled } = spied(THROTTLED)
  await throttled.chat({ model: 'gemma:a', messages: QUESTION, options: SHORT })
  for (const stream of [false, true]) {
    const error = await status(429, () => throttled.chat({ model: 'gemma:a', messages: QUESTION, stream }))
    assert.match(error.message, /per minute/)
    const wait = Number(seen.at(-1).get('retry-after'))
    assert.ok(wait > 0 && wait <= 60, `retry-after: ${wait}`)
  }
}

/** A client, and what it itself shows nobody: the headers of its replies. */
function spied(key = KEY, headers = {}) {
  const seen = []
  const spy = async (...request) => {
    const reply = await fetch(...request)
    seen.push(reply.headers)
    return reply
  }
  return { seen, client: new Ollama({ host: `${BASE}/k/${key}`, fetch: spy, headers }) }
}

/** The only slot is taken: a client that may not wait, then one that will not. */
async function queued() {
  const ask = { model: 'gemma:a', messages: QUESTION }
  for (const [code, part, { seen, client }] of [
    [429, /max_queued/, spied(HASTY)],
    [503, /X-Gaucho-Deadline/, spied(KEY, { 'X-Gaucho-Deadline': '0' })],
  ]) {
    for (const call of [
      () => client.chat(ask),
      () => client.chat({ ...ask, stream: true }),
      () => client.generate({ model: 'gemma:a', prompt: 'Why?' }),
    ]) {
      assert.match((await status(code, call)).message, part)
      assert.ok(Number(seen.at(-1).get('retry-after')) > 0)
    }
  }
}

async function headers() {
  const { seen, client } = spied()
  await client.chat({ model: 'gemma:a', messages: QUESTION, options: SHORT })
  await all(await client.chat({ model: 'gemma:a', messages: QUESTION, options: SHORT, stream: true }))
  for (const reply of seen) {
    assert.equal(reply.get('ratelimit-limit'), '6000')
    assert.ok(Number(reply.get('ratelimit-remaining')) < 6000 && reply.get('x-request-id'))
  }
  assert.equal(seen[1].get('content-type'), 'application/x-ndjson')
}

async function everyday() {
  for (const client of [byHeader(), byPath()]) {
    for (const part of [talks, tools, shapes, embeds, thinks, sees, lists]) await part(client)
  }
  await headers()
  const client = byPath()
  const ask = { model: 'gemma:a', messages: QUESTION, options: SHORT, stream: true }
  const four = await Promise.all([1, 2, 3, 4].map(async () => all(await client.chat({ ...ask }))))
  assert.deepEqual(four.map((pieces) => pieces.at(-1).eval_count), [12, 12, 12, 12], 'several at once')
  await refusals()
}

/** Reads a stream that gives two pieces and then fails. */
async function breaksOff(stream) {
  const pieces = []
  const error = await refused(Error, async () => {
    for await (const piece of await stream) pieces.push(piece)
  })
  say(`the error reads: ${error.message}`)
  assert.doesNotMatch(error.message, /Did not receive done/, 'the gateway said why, not the client')
  assert.deepEqual(pieces.map((piece) => piece.done), [false, false])
}

/** Faults come in this order: four for streamed chats, one for a streamed generate, one for a chat at once. */
async function broken() {
  await told()
  const client = byHeader()
  for (let i = 0; i < 4; i++) await breaksOff(client.chat({ model: 'gemma:a', messages: QUESTION, stream: true }))
  await breaksOff(client.generate({ model: 'gemma:a', prompt: 'Why?', stream: true }))
  const error = await refused(Error, () => client.chat({ model: 'gemma:a', messages: QUESTION }))
  assert.ok(error.status_code >= 500, error.stack)
  const next = await client.chat({ model: 'gemma:a', messages: QUESTION, options: SHORT })
  assert.ok(next.done, 'the next one is answered')
}

async function leaves() {
  const client = byHeader()
  const stream = await client.chat({ model: 'gemma:a', messages: QUESTION, stream: true })
  let seen = 0
  const left = await refused(Error, async () => {
    for await (const piece of stream) {
      assert.equal(piece.done, false)
      if (++seen === 3) client.abort()
    }
  })
  assert.equal(left.name, 'AbortError')
  say('left')
  await told()
  // the client has no way to leave an answer that is not streamed, except through `fetch`
  const waits = (signal) =>
    new Ollama({ host: `${BASE}/k/${KEY}`, fetch: (url, init) => fetch(url, { ...init, signal }) })
  const chat = (signal) => waits(signal).chat({ model: 'gemma:a', messages: QUESTION })
  assert.equal((await leaveUnanswered(Error, chat)).name, 'AbortError')
  assert.ok((await client.chat({ model: 'gemma:a', messages: QUESTION, options: SHORT })).done, 'the slot is free again')
}

await run({ everyday, broken, leaves, queued })
