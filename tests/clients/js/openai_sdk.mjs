// The official `openai` client for JavaScript against a running gateway. One part per run, named on the command line.
import assert from 'node:assert/strict'
import OpenAI from 'openai'
import { ANIMAL, BASE, BLUE, HASTY, KEY, QUESTION, RED, SNOW, THROTTLED, TOOLS, WEATHER } from './part.mjs'
import { all, isAnimal, leaveUnanswered, refused, run, say, told } from './part.mjs'

const byHeader = (apiKey = KEY) => new OpenAI({ baseURL: `${BASE}/v1`, apiKey, maxRetries: 0 })
// the client wants an `apiKey` and always sends it: the same one
const byPath = () => new OpenAI({ baseURL: `${BASE}/k/${KEY}/v1`, apiKey: KEY, maxRetries: 0 })

const textOf = (chunks) => chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('')

async function chats(client) {
  const ask = { model: 'gemma:a', messages: QUESTION, max_tokens: 12 }
  const create = (more) => client.chat.completions.create({ ...ask, ...more })
  const once = await create()
  const [choice] = once.choices
  assert.equal(once.object, 'chat.completion')
  assert.equal(choice.finish_reason, 'length')
  assert.equal(choice.message.role, 'assistant')
  assert.ok(choice.message.content && once.id && once.created > 0, JSON.stringify(once))
  assert.equal(once.usage.completion_tokens, 12)
  assert.equal(once.usage.total_tokens, once.usage.prompt_tokens + 12)
  const capped = await create({ max_tokens: undefined, max_completion_tokens: 5 })
  assert.equal(capped.usage.completion_tokens, 5, 'max_completion_tokens is honoured')

  const chunks = await all(await create({ stream: true }))
  assert.equal(textOf(chunks), choice.message.content, 'streamed as at once')
  assert.equal(chunks[0].choices[0].delta.role, 'assistant')
  assert.equal(chunks.at(-1).choices[0].finish_reason, 'length')
  assert.equal(new Set(chunks.map((chunk) => chunk.id)).size, 1, 'one id per answer')
  const usage = await all(await create({ stream: true, stream_options: { include_usage: true } }))
  assert.deepEqual([usage.at(-1).choices, usage.at(-1).usage.completion_tokens], [[], 12])

  const events = []
  const runner = client.chat.completions.stream(ask)
  runner.on('content.delta', ({ delta }) => events.push(delta))
  await runner.done()
  assert.equal(events.join(''), choice.message.content)
  const parts = [{ role: 'user', content: [{ type: 'text', text: 'Why is' }, { type: 'text', text: 'the sky blue?' }] }]
  assert.ok((await create({ messages: parts })).choices[0].message.content)
  const { logprobs } = (await create({ logprobs: true, top_logprobs: 2 })).choices[0]
  assert.equal(logprobs.content[0].top_logprobs.length, 2)
}

async function completes(client) {
  const ask = { model: 'gemma:a', prompt: 'The capital of France is', max_tokens: 12 }
  const once = await client.completions.create(ask)
  assert.equal(once.object, 'text_completion')
  assert.equal(once.choices[0].finish_reason, 'length')
  assert.equal(once.usage.completion_tokens, 12)
  const chunks = await all(await client.completions.create({ ...ask, stream: true }))
  assert.equal(chunks.map((chunk) => chunk.choices[0].text).join(''), once.choices[0].text, 'streamed as at once')
  assert.equal(chunks.at(-1).choices[0].finish_reason, 'length')
}

async function tools(client) {
  const ask = { model: 'tooly', messages: WEATHER, tools: TOOLS }
  const create = (more) => client.chat.completions.create({ ...ask, ...more })
  const [choice] = (await create()).choices
  const [call] = choice.message.tool_calls
  assert.deepEqual([choice.finish_reason, call.type, call.function.name], ['tool_calls', 'function', 'get_weather'])
  assert.deepEqual(JSON.parse(call.function.arguments), { city: 'Paris' })

  const chunks = await all(await create({ stream: true }))
  const calls = chunks.flatMap((chunk) => chunk.choices[0].delta.tool_calls ?? [])
  assert.deepEqual([...new Set(calls.map((call) => call.index))], [0])
  assert.deepEqual(JSON.parse(calls.map((call) => call.function.arguments).join('')), { city: 'Paris' })
  assert.equal(chunks.at(-1).choices[0].finish_reason, 'tool_calls')
  const streamed = await client.chat.completions.stream(ask).finalChatCompletion()
  assert.equal(streamed.choices[0].message.tool_calls[0].function.name, 'get_weather')

  const result = { role: 'tool', tool_call_id: call.id, content: 'sunny' }
  const messages = [...WEATHER, choice.message, result]
  assert.ok((await create({ messages })).choices[0].finish_reason)
  assert.ok((await all(await create({ messages, stream: true }))).at(-1).choices[0].finish_reason)
  const none = await create({ tool_choice: 'none', max_tokens: 5 })
  assert.ok(!none.choices[0].message.tool_calls, 'tool_choice none offers no tools')
}

async function shapes(client) {
  const response_format = { type: 'json_schema', json_schema: { name: 'animal', strict: true, schema: ANIMAL } }
  const ask = { model: 'gemma:a', messages: QUESTION, response_format }
  isAnimal((await client.chat.completions.create(ask)).choices[0].message.content)
  isAnimal((await client.chat.completions.parse(ask)).choices[0].message.content)
  isAnimal(textOf(await all(await client.chat.completions.create({ ...ask, stream: true }))))
  const json = await client.chat.completions.create({ ...ask, response_format: { type: 'json_object' } })
  assert.equal(typeof JSON.parse(json.choices[0].message.content), 'object')
}

async function embeds(client) {
  const create = (more) => client.embeddings.create({ model: 'tinybert', input: 'a', ...more })
  // the client asks for base64 by itself, and decodes it
  const one = (await create()).data[0].embedding
  const two = await create({ input: ['a', 'b'] })
  const floats = (await create({ encoding_format: 'float' })).data[0].embedding
  assert.equal(one.length, 64)
  assert.deepEqual(two.data.map((item) => item.index), [0, 1])
  assert.deepEqual(two.data[0].embedding, one)
  assert.notDeepEqual(two.data[1].embedding, one)
  assert.ok(one.every((value, at) => Math.abs(value - floats[at]) < 1e-6), 'base64 is the same vector')
  assert.equal(typeof (await create({ encoding_format: 'base64' })).data[0].embedding, 'string')
  const both = (await create({ input: ['a', 'b'], encoding_format: 'float' })).data
  assert.ok(both.every(({ embedding }, at) => embedding.every((x, i) => Math.abs(x - two.data[at].embedding[i]) < 1e-6)))
  assert.equal((await create({ dimensions: 8 })).data[0].embedding.length, 8)
}

async function thinks(client) {
  const ask = { model: 'thinky', messages: SNOW, reasoning_effort: 'low' }
  const { message } = (await client.chat.completions.create(ask)).choices[0]
  assert.equal(message.reasoning, 'Snow is white, so it is white.')
  assert.equal(message.content, 'Yes, snow is white.\n')
  const chunks = await all(await client.chat.completions.create({ ...ask, stream: true }))
  assert.equal(chunks.map((chunk) => chunk.choices[0].delta.reasoning ?? '').join(''), message.reasoning)
  assert.equal(textOf(chunks), message.content)
  const silent = await client.chat.completions.create({ ...ask, reasoning_effort: 'none' })
  assert.ok(!silent.choices[0].message.reasoning)
}

async function sees(client) {
  const looksAt = (url) => [
    { role: 'user', content: [{ type: 'text', text: 'What is it?' }, { type: 'image_url', image_url: { url } }] },
  ]
  const create = (more) => client.chat.completions.create({ model: 'seer', max_tokens: 12, ...more })
  const texts = []
  for (const picture of [BLUE, RED]) {
    const messages = looksAt(`data:image/png;base64,${picture}`)
    const once = await create({ messages })
    assert.ok(once.usage.prompt_tokens > 100, 'a picture is tokens too')
    texts.push(once.choices[0].message.content)
    assert.equal(textOf(await all(await create({ messages, stream: true }))), texts.at(-1), 'streamed as at once')
  }
  assert.notEqual(texts[0], texts[1], 'it sees what is different')
  for (const [model, url, part] of [
    ['gemma:a', `data:image/png;base64,${BLUE}`, /does not support multimodal requests/],
    ['seer', 'https://example.com/x.png', /image URLs are not currently supported/],
    ['seer', 'data:image/gif;base64,R0lGODlh', /invalid image input/],
  ]) {
    for (const stream of [false, true]) {
      const call = () => create({ model, messages: looksAt(url), stream })
      assert.match((await refused(OpenAI.BadRequestError, call)).message, part)
    }
  }
}

async function lists(client) {
  const names = (await all(await client.models.list())).map((model) => model.id)
  assert.ok(names.includes('gemma:a') && !names.includes('stamped:latest'), `not this application's: ${names}`)
  const model = await client.models.retrieve('gemma:a')
  assert.deepEqual([model.id, model.object], ['gemma:a', 'model'])
  await refused(OpenAI.NotFoundError, () => client.models.retrieve('nowhere'))
}

async function headers(client) {
  const ask = { model: 'gemma:a', messages: QUESTION, max_tokens: 3 }
  for (const call of [
    client.chat.completions.create(ask),
    client.chat.completions.create({ ...ask, stream: true }),
    client.embeddings.create({ model: 'tinybert', input: 'a' }),
  ]) {
    const { data, response, request_id } = await call.withResponse()
    assert.equal(response.headers.get('x-ratelimit-limit-requests'), '6000')
    assert.ok(Number(response.headers.get('x-ratelimit-remaining-requests')) < 6000)
    assert.match(response.headers.get('x-ratelimit-reset-requests'), /^\d+s$/)
    assert.ok(request_id && request_id === response.headers.get('x-request-id'))
    if (Symbol.asyncIterator in data) await all(data)
  }
  const raw = await client.chat.completions.create({ ...ask, stream: true }).asResponse()
  assert.equal(raw.headers.get('content-type'), 'text/event-stream')
  assert.match(await raw.text(), /\n\ndata: \[DONE\]\n\n$/)
}

async function refusals() {
  const wrong = byHeader('gk_nothing')
  const ask = { model: 'gemma:a', messages: QUESTION }
  for (const call of [
    () => wrong.models.list(),
    () => wrong.chat.completions.create(ask),
    () => wrong.chat.completions.create({ ...ask, stream: true }),
    () => wrong.completions.create({ model: 'gemma:a', prompt: 'x' }),
    () => wrong.embeddings.create({ model: 'tinybert', input: 'a' }),
  ]) {
    const error = await refused(OpenAI.AuthenticationError, call)
    assert.match(error.message, /key/)
    assert.doesNotMatch(error.message, /gk_nothing/, "a key in an error's text")
    assert.equal(error.type, 'authentication_error')
  }
  const client = byHeader()
  const create = (more) => () => client.chat.completions.create({ ...ask, ...more })
  for (const call of [
    create({ model: 'nowhere' }),
    create({ model: 'nowhere', stream: true }),
    () => client.embeddings.create({ model: 'nowhere', input: 'x' }),
  ]) {
    assert.match((await refused(OpenAI.NotFoundError, call)).message, /nowhere/)
  }
  assert.match((await refused(OpenAI.PermissionDeniedError, create({ model: 'stamped' }))).message, /stamped/)
  for (const [field, value] of [['temperature', 'hot'], ['max_tokens', 'many'], ['stream_options', 7]]) {
    for (const stream of [false, true]) {
      const error = await refused(OpenAI.BadRequestError, create({ [field]: value, stream }))
      assert.ok(error.message.includes(field) && error.type === 'invalid_request_error', error.message)
    }
  }
  assert.match((await refused(OpenAI.BadRequestError, create({ tools: TOOLS }))).message, /does not support tools/)
  assert.equal((await refused(OpenAI.BadRequestError, create({ n: 2 }))).param, 'n')

  const throttled = byHeader(THROTTLED)
  await throttled.chat.completions.create({ ...ask, max_tokens: 3 })
  for (const stream of [false, true]) {
    const call = () => throttled.chat.completions.create({ ...ask, stream })
    const error = await refused(OpenAI.RateLimitError, call)
    assert.match(error.message, /per minute/)
    assert.equal(error.headers.get('x-ratelimit-remaining-requests'), '0')
    const wait = Number(error.headers.get('retry-after'))
    assert.ok(wait > 0 && wait <= 60, `retry-after: ${wait}`)
  }
}

/** The only slot is taken: a client that may not wait, then one that will not. */
async function queued() {
  const ask = { model: 'gemma:a', messages: QUESTION }
  const now = byHeader().withOptions({ defaultHeaders: { 'X-Gaucho-Deadline': '0' } })
  for (const [kind, part, client] of [
    [OpenAI.RateLimitError, /max_queued/, byHeader(HASTY)],
    [OpenAI.InternalServerError, /X-Gaucho-Deadline/, now],
  ]) {
    for (const call of [
      () => client.chat.completions.create(ask),
      () => client.chat.completions.create({ ...ask, stream: true }),
      () => client.completions.create({ model: 'gemma:a', prompt: 'Why?' }),
    ]) {
      const error = await refused(kind, call)
      assert.match(error.message, part)
      assert.ok([429, 503].includes(error.status) && error.code && Number(error.headers.get('retry-after')) > 0)
    }
  }
}

async function everyday() {
  for (const client of [byHeader(), byPath()]) {
    for (const part of [chats, completes, tools, shapes, embeds, thinks, sees, lists, headers]) await part(client)
  }
  const client = byHeader()
  const ask = { model: 'gemma:a', messages: QUESTION, max_tokens: 12, stream: true }
  const four = await Promise.all([1, 2, 3, 4].map(async () => textOf(await all(await client.chat.completions.create(ask)))))
  assert.ok(four[0] && new Set(four).size === 1, 'several at once')
  await refusals()
}

/** Reads a stream that gives two pieces and then fails. */
async function breaksOff(stream) {
  const pieces = []
  const error = await refused(OpenAI.APIError, async () => {
    for await (const piece of await stream) pieces.push(piece)
  })
  say(`the error reads: ${error.message}`)
  assert.deepEqual(pieces.map((piece) => piece.choices[0].finish_reason ?? null), [null, null])
}

/** Faults come in this order: four for streamed chats, one for a streamed completion, one for a chat at once. */
async function broken() {
  await told()
  const client = byHeader()
  const ask = { model: 'gemma:a', messages: QUESTION }
  for (let i = 0; i < 4; i++) await breaksOff(client.chat.completions.create({ ...ask, stream: true }))
  await breaksOff(client.completions.create({ model: 'gemma:a', prompt: 'Why?', stream: true }))
  await refused(OpenAI.InternalServerError, () => client.chat.completions.create(ask))
  const next = await client.chat.completions.create({ ...ask, max_tokens: 3 })
  assert.ok(next.choices[0].finish_reason, 'the next one is answered')
}

async function leaves() {
  const client = byHeader()
  const ask = { model: 'gemma:a', messages: QUESTION }
  let seen = 0
  for await (const piece of await client.chat.completions.create({ ...ask, stream: true })) {
    assert.equal(piece.choices[0].finish_reason ?? null, null)
    if (++seen === 3) break
  }
  say('left')
  await told()
  await leaveUnanswered(OpenAI.APIUserAbortError, (signal) => client.chat.completions.create(ask, { signal }))
  const next = await client.chat.completions.create({ ...ask, max_tokens: 3 })
  assert.ok(next.choices[0].finish_reason, 'the slot is free again')
}

/** The slot is taken; comment lines come until it is free. */
async function waits() {
  const ask = { model: 'gemma:a', messages: QUESTION, max_tokens: 12, stream: true }
  const client = byHeader()
  const stream = await client.chat.completions.create(ask, { headers: { 'X-Gaucho-Keepalive': '1s' } })
  say('waiting')
  const chunks = await all(stream)
  assert.equal(chunks[0].choices[0].delta.role, 'assistant')
  assert.equal(chunks.at(-1).choices[0].finish_reason, 'length')
  assert.equal(textOf(chunks), textOf(await all(await client.chat.completions.create(ask))), 'the same as without waiting')
}

await run({ everyday, broken, leaves, waits, queued })
