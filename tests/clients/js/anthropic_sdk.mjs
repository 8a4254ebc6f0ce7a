// The official `@anthropic-ai/sdk` for JavaScript against a running gateway. One part per run, named on the command line.
import assert from 'node:assert/strict'
import Anthropic from '@anthropic-ai/sdk'
import { jsonSchemaOutputFormat } from '@anthropic-ai/sdk/helpers/json-schema'
import { ANIMAL, BASE, BLUE, HASTY, KEY, QUESTION, RED, SNOW, THROTTLED, TOOLS, WEATHER } from './part.mjs'
import { all, isAnimal, leaveUnanswered, refused, run, say, told } from './part.mjs'

const byHeader = (apiKey = KEY, more) => new Anthropic({ baseURL: BASE, apiKey, maxRetries: 0, ...more })
// the client wants an `apiKey` and always sends it: the same one
const byPath = () => new Anthropic({ baseURL: `${BASE}/k/${KEY}`, apiKey: KEY, maxRetries: 0 })

const SHORT = { model: 'gemma:a', messages: QUESTION, max_tokens: 12 }
const LONG = { ...SHORT, max_tokens: 500 }
const tools = TOOLS.map(({ function: { name, description, parameters } }) => ({ name, description, input_schema: parameters }))

const deltas = (events) => events.filter((event) => event.type === 'content_block_delta').map((event) => event.delta)
const textOf = (events) => deltas(events).map((delta) => delta.text ?? '').join('')
const png = (data) => ({ type: 'base64', media_type: 'image/png', data })

async function chats(client) {
  const create = (more) => client.messages.create({ ...SHORT, ...more })
  const once = await create()
  const [block] = once.content
  assert.deepEqual([once.type, once.role, once.model, once.stop_reason], ['message', 'assistant', 'gemma:a', 'max_tokens'])
  assert.ok(block.text && once.id.startsWith('msg_') && once.usage.input_tokens > 0, JSON.stringify(once))
  assert.equal(once.usage.output_tokens, 12)

  const events = await all(await create({ stream: true }))
  const kinds = events.map((event) => event.type)
  assert.equal(textOf(events), block.text, 'streamed as at once')
  assert.deepEqual(kinds.slice(0, 2), ['message_start', 'content_block_start'])
  assert.deepEqual(kinds.slice(-3), ['content_block_stop', 'message_delta', 'message_stop'])
  assert.equal(events.at(-2).delta.stop_reason, 'max_tokens')
  assert.deepEqual(events.at(-2).usage, once.usage)

  const heard = []
  const stream = client.messages.stream(SHORT).on('text', (text) => heard.push(text))
  const final = await stream.finalMessage()
  assert.equal(heard.join(''), block.text, 'the helper reads the same')
  assert.deepEqual([final.content[0].text, final.stop_reason], [block.text, 'max_tokens'])
  assert.equal(await client.messages.stream(SHORT).finalText(), block.text)

  const system = [{ type: 'text', text: 'Be brief.', cache_control: { type: 'ephemeral' } }]
  const parts = [{ role: 'user', content: [{ type: 'text', text: 'Why is' }, { type: 'text', text: 'the sky blue?' }] }]
  const more = { metadata: { user_id: 'u' }, top_k: 5, temperature: 0.5, max_tokens: 3 }
  assert.equal((await create({ messages: parts, system, ...more })).usage.output_tokens, 3)
}

async function calls(client) {
  const ask = { model: 'tooly', messages: WEATHER, max_tokens: 200, tools }
  const create = (more) => client.messages.create({ ...ask, ...more })
  const once = await create()
  const call = once.content.find((block) => block.type === 'tool_use')
  assert.deepEqual([once.stop_reason, call.name, call.input], ['tool_use', 'get_weather', { city: 'Paris' }])

  const events = await all(await create({ stream: true }))
  assert.deepEqual(JSON.parse(deltas(events).map((delta) => delta.partial_json ?? '').join('')), { city: 'Paris' })
  assert.equal(events.at(-2).delta.stop_reason, 'tool_use')
  const final = await client.messages.stream(ask).finalMessage()
  assert.deepEqual(final.content.find((block) => block.type === 'tool_use').input, { city: 'Paris' })

  const result = { type: 'tool_result', tool_use_id: call.id, content: [{ type: 'text', text: 'sunny' }] }
  const messages = [...WEATHER, { role: 'assistant', content: once.content }, { role: 'user', content: [result] }]
  assert.ok((await create({ messages })).stop_reason)
  assert.equal((await all(await create({ messages, stream: true }))).at(-1).type, 'message_stop')
  const none = await create({ tool_choice: { type: 'none' } })
  assert.ok(none.content.every((block) => block.type !== 'tool_use'), 'tool_choice none offers no tools')
  const beta = await client.beta.messages.create({ ...ask, betas: ['some-beta-2026-01-01'] })
  assert.equal(beta.stop_reason, 'tool_use')
}

async function shapes(client) {
  const format = jsonSchemaOutputFormat({ ...ANIMAL, additionalProperties: false })
  const ask = { ...LONG, output_config: { format } }
  const parsed = (await client.messages.parse(ask)).parsed_output
  isAnimal(JSON.stringify(parsed))
  isAnimal((await client.messages.create(ask)).content[0].text)
  isAnimal(textOf(await all(await client.messages.create({ ...ask, stream: true }))))
}

async function thinks(client) {
  const on = { type: 'enabled', budget_tokens: 1024 }
  const ask = { model: 'thinky', messages: SNOW, max_tokens: 2000 }
  const once = await client.messages.create({ ...ask, thinking: on })
  assert.deepEqual(once.content.map((block) => block.type), ['thinking', 'text'])
  assert.equal(once.content[0].thinking, 'Snow is white, so it is white.')
  assert.equal(once.content[1].text, 'Yes, snow is white.\n')
  const heard = []
  const final = await client.messages.stream({ ...ask, thinking: on }).on('thinking', (text) => heard.push(text)).finalMessage()
  assert.equal(heard.join(''), once.content[0].thinking)
  assert.deepEqual(final.content.map((block) => block.type), ['thinking', 'text'])
  const off = await client.messages.create({ ...ask, thinking: { type: 'disabled' } })
  assert.deepEqual(off.content.map((block) => block.type), ['text'])
  // a client that always asks for thinking, of a model that has none
  assert.equal((await client.messages.create({ ...SHORT, thinking: on })).content[0].type, 'text')
  const messages = [...SNOW, { role: 'assistant', content: once.content }, ...SNOW]
  assert.ok((await client.messages.create({ ...ask, messages, max_tokens: 9 })).content.length, 'what it thought comes back')
}

async function sees(client) {
  const looksAt = (source) => [{ role: 'user', content: [{ type: 'image', source }, { type: 'text', text: 'What is it?' }] }]
  const create = (more) => client.messages.create({ model: 'seer', max_tokens: 12, ...more })
  const texts = []
  for (const picture of [BLUE, RED]) {
    const messages = looksAt(png(picture))
    const once = await create({ messages })
    assert.ok(once.usage.input_tokens > 100, 'a picture is tokens too')
    texts.push(once.content[0].text)
    assert.equal(textOf(await all(await create({ messages, stream: true }))), texts.at(-1), 'streamed as at once')
  }
  assert.notEqual(texts[0], texts[1], 'it sees what is different')
  for (const [model, source, part] of [
    ['gemma:a', png(BLUE), /does not support multimodal requests/],
    ['seer', { type: 'url', url: 'https://example.com/x.png' }, /Only base64 images are supported/],
    ['seer', png('%%%%'), /base64/],
  ]) {
    for (const stream of [false, true]) {
      const call = () => create({ model, messages: looksAt(source), stream })
      assert.match((await refused(Anthropic.BadRequestError, call)).apiMessage, part)
    }
  }
}

async function lists(client) {
  const names = (await all(await client.models.list())).map((model) => model.id)
  assert.ok(names.includes('gemma:a') && !names.includes('stamped:latest'), `not this application's: ${names}`)
  assert.equal((await client.models.retrieve('gemma:a')).id, 'gemma:a')
  await refused(Anthropic.NotFoundError, () => client.models.retrieve('nowhere'))
}

async function headers(client) {
  for (const call of [client.messages.create(SHORT), client.messages.create({ ...SHORT, stream: true })]) {
    const { data, response, request_id } = await call.withResponse()
    const limit = (name) => response.headers.get(`anthropic-ratelimit-requests-${name}`)
    assert.ok(limit('limit') === '6000' && Number(limit('remaining')) < 6000 && Date.parse(limit('reset')) > 0)
    assert.ok(request_id && request_id === response.headers.get('x-request-id'))
    if (Symbol.asyncIterator in data) await all(data)
  }
  assert.match((await client.messages.create(SHORT))._request_id, /^req_/)
  const raw = await client.messages.create({ ...SHORT, stream: true }).asResponse()
  assert.equal(raw.headers.get('content-type'), 'text/event-stream')
  assert.match(await raw.text(), /\n\nevent: message_stop\ndata: {"type":"message_stop"}\n\n$/)
}

async function refusals() {
  const wrong = byHeader('gk_nothing')
  for (const call of [
    () => wrong.models.list(),
    () => wrong.messages.create(SHORT),
    () => wrong.messages.create({ ...SHORT, stream: true }),
  ]) {
    const error = await refused(Anthropic.AuthenticationError, call)
    assert.match(error.apiMessage, /key/)
    assert.doesNotMatch(error.message, /gk_nothing/, "a key in an error's text")
    assert.equal(error.type, 'authentication_error')
  }
  const client = byHeader()
  for (const stream of [false, true]) {
    const create = (more) => () => client.messages.create({ ...SHORT, stream, ...more })
    const nowhere = await refused(Anthropic.NotFoundError, create({ model: 'nowhere' }))
    assert.match(nowhere.apiMessage, /nowhere/)
    assert.ok(nowhere.requestID && nowhere.requestID === nowhere.error.request_id, JSON.stringify(nowhere.error))
    assert.match((await refused(Anthropic.PermissionDeniedError, create({ model: 'stamped' }))).apiMessage, /stamped/)
    for (const [field, value] of [
      ['temperature', 'hot'],
      ['max_tokens', 'many'],
      ['max_tokens', 0],
      ['messages', []],
      ['tool_choice', { type: 'any' }],
    ]) {
      const error = await refused(Anthropic.BadRequestError, create({ [field]: value }))
      assert.ok(error.apiMessage.includes(field) && error.type === 'invalid_request_error', error.message)
    }
    assert.match((await refused(Anthropic.BadRequestError, create({ tools }))).apiMessage, /does not support tools/)
  }
  const throttled = byHeader(THROTTLED)
  await throttled.messages.create(SHORT)
  for (const stream of [false, true]) {
    const error = await refused(Anthropic.RateLimitError, () => throttled.messages.create({ ...SHORT, stream }))
    assert.match(error.apiMessage, /per minute/)
    assert.equal(error.headers.get('anthropic-ratelimit-requests-remaining'), '0')
    const wait = Number(error.headers.get('retry-after'))
    assert.ok(wait > 0 && wait <= 60, `retry-after: ${wait}`)
  }
}

/** The only slot is taken: a client that may not wait, then one that will not. */
async function queued() {
  const now = byHeader(KEY, { defaultHeaders: { 'X-Gaucho-Deadline': '0' } })
  for (const [kind, type, part, client] of [
    [Anthropic.RateLimitError, 'rate_limit_error', /max_queued/, byHeader(HASTY)],
    [Anthropic.InternalServerError, 'overloaded_error', /X-Gaucho-Deadline/, now],
  ]) {
    for (const stream of [false, true]) {
      const error = await refused(kind, () => client.messages.create({ ...SHORT, stream }))
      assert.match(error.apiMessage, part)
      assert.ok(error.type === type && Number(error.headers.get('retry-after')) > 0)
    }
  }
}

async function everyday() {
  for (const client of [byHeader(), byPath()]) {
    for (const part of [chats, calls, shapes, thinks, sees, lists, headers]) await part(client)
  }
  const client = byHeader()
  const four = await Promise.all([1, 2, 3, 4].map(() => client.messages.stream(SHORT).finalText()))
  assert.ok(four[0] && new Set(four).size === 1, 'several at once')
  await refusals()
}

/** Reads a stream that gives two pieces and then fails. */
async function breaksOff(stream) {
  const events = []
  const error = await refused(Anthropic.APIError, async () => {
    for await (const event of await stream) events.push(event)
  })
  say(`the error reads: ${error.message}`)
  assert.equal(error.type, 'api_error')
  assert.equal(deltas(events).length, 2)
  assert.ok(events.every((event) => event.type !== 'message_stop'))
}

/** Faults come in this order: five for streams, one for a message at once. */
async function broken() {
  await told()
  const client = byHeader()
  for (let i = 0; i < 4; i++) await breaksOff(client.messages.create({ ...LONG, stream: true }))
  await breaksOff(client.messages.stream(LONG))
  await refused(Anthropic.InternalServerError, () => client.messages.create(LONG))
  assert.ok((await client.messages.create(SHORT)).stop_reason, 'the next one is answered')
}

async function leaves() {
  const client = byHeader()
  let seen = 0
  for await (const event of await client.messages.create({ ...LONG, stream: true })) {
    assert.notEqual(event.type, 'message_stop')
    if (++seen === 4) break
  }
  say('left')
  await told()
  await leaveUnanswered(Anthropic.APIUserAbortError, (signal) => client.messages.create(LONG, { signal }))
  assert.ok((await client.messages.create({ ...SHORT, max_tokens: 3 })).stop_reason, 'the slot is free again')
}

/** The slot is taken; comment lines come until it is free. */
async function waits() {
  const client = byHeader()
  const stream = await client.messages.create({ ...SHORT, stream: true }, { headers: { 'X-Gaucho-Keepalive': '1s' } })
  say('waiting')
  const events = await all(stream)
  assert.equal(events[0].type, 'message_start')
  assert.equal(events.at(-2).delta.stop_reason, 'max_tokens')
  assert.equal(textOf(events), (await client.messages.create(SHORT)).content[0].text, 'the same as without waiting')
}

await run({ everyday, broken, leaves, waits, queued })
