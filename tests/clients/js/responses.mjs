// The `openai` client for JavaScript on `/v1/responses`, against a running gateway. One part per run, named on the command line.
import assert from 'node:assert/strict'
import OpenAI from 'openai'
import { makeParseableTextFormat } from 'openai/lib/parser'
import { ANIMAL, BASE, BLUE, HASTY, KEY, QUESTION, RED, SNOW, THROTTLED, TOOLS, WEATHER } from './part.mjs'
import { all, isAnimal, leaveUnanswered, refused, run, say, told } from './part.mjs'

const byHeader = (apiKey = KEY) => new OpenAI({ baseURL: `${BASE}/v1`, apiKey, maxRetries: 0 })
// the client wants an `apiKey` and always sends it: the same one
const byPath = () => new OpenAI({ baseURL: `${BASE}/k/${KEY}/v1`, apiKey: KEY, maxRetries: 0 })

const TOOL = { type: 'function', strict: false, ...TOOLS[0].function }
const LONG = { model: 'gemma:a', input: QUESTION }
const SHORT = { ...LONG, max_output_tokens: 12 }

const deltas = (events, kind = 'output_text') =>
  events.filter(({ type }) => type === `response.${kind}.delta`).map(({ delta }) => delta).join('')
const kindsOf = (items) => items.map(({ type }) => type)

/** All events of a stream, whose numbers and items are in order. */
async function streamed(client, ask) {
  const events = await all(await client.responses.create({ ...ask, stream: true }))
  assert.deepEqual(events.map((event) => event.sequence_number), [...events.keys()])
  assert.deepEqual(kindsOf(events.slice(0, 2)), ['response.created', 'response.in_progress'])
  assert.equal(events.at(-1).type, 'response.completed')
  const items = events.filter(({ type }) => type === 'response.output_item.done').map(({ item }) => item)
  assert.deepEqual(items, events.at(-1).response.output, 'the items that were done are the output')
  const added = events.filter(({ type }) => type === 'response.output_item.added')
  assert.deepEqual(added.map((event) => event.output_index), [...items.keys()])
  assert.deepEqual(added.map(({ item }) => item.id), items.map(({ id }) => id))
  return events
}

/** What the client's own helper makes of a stream, and the kinds of its events. */
async function helped(client, ask) {
  const kinds = []
  const stream = client.responses.stream(ask).on('event', (event) => kinds.push(event.type))
  return [kinds, await stream.finalResponse()]
}

async function answers(client) {
  const create = (more) => client.responses.create({ ...SHORT, ...more })
  const once = await create()
  assert.deepEqual([once.object, once.status, once.model], ['response', 'completed', 'gemma:a'])
  assert.ok(once.id.startsWith('resp_') && once.output_text && once.output.length === 1, JSON.stringify(once))
  assert.equal(once.usage.output_tokens, 12)
  assert.equal(once.usage.total_tokens, once.usage.input_tokens + 12)
  const events = await streamed(client, SHORT)
  assert.equal(deltas(events), once.output_text, 'streamed as at once')
  assert.deepEqual(events.at(-1).response.usage, once.usage)
  const [kinds, final] = await helped(client, SHORT)
  assert.deepEqual(kinds, kindsOf(events))
  assert.equal(final.output_text, once.output_text)

  assert.equal((await create({ input: 'Why is the sky blue?' })).output_text, once.output_text, "a text is a user's message")
  const said = { instructions: 'Be brief.', temperature: 0.5, top_p: 0.9, metadata: { a: 'b' }, truncation: 'auto' }
  const rich = await create({ ...said, store: false, user: 'u', include: ['reasoning.encrypted_content'] })
  for (const [field, value] of Object.entries(said)) assert.deepEqual(rich[field], value, field)
  // the whole talk comes with each turn, since nothing is stored
  const input = [...QUESTION, ...once.output, { role: 'developer', content: 'Be brief.' }, ...WEATHER]
  assert.ok((await create({ input })).usage.input_tokens > once.usage.input_tokens)
}

async function calls(client) {
  const ask = { model: 'tooly', input: WEATHER, tools: [TOOL] }
  const once = await client.responses.create(ask)
  const call = once.output.find((item) => item.type === 'function_call')
  assert.deepEqual([call.name, JSON.parse(call.arguments)], ['get_weather', { city: 'Paris' }])
  const events = await streamed(client, ask)
  assert.deepEqual(JSON.parse(deltas(events, 'function_call_arguments')), { city: 'Paris' })
  const [kinds, final] = await helped(client, ask)
  assert.ok(kinds.includes('response.function_call_arguments.done'))
  assert.deepEqual([final.output.at(-1).name, final.output.at(-1).arguments], [call.name, call.arguments])
  for (const output of ['sunny', [{ type: 'input_text', text: 'sunny' }]]) {
    const input = [...WEATHER, ...once.output, { type: 'function_call_output', call_id: call.call_id, output }]
    assert.equal((await client.responses.create({ ...ask, input })).status, 'completed')
    await streamed(client, { ...ask, input })
  }
  const none = await client.responses.create({ ...ask, tool_choice: 'none', max_output_tokens: 5 })
  assert.deepEqual(kindsOf(none.output), ['message'], 'tool_choice none offers no tools')
}

async function shapes(client) {
  const plain = { type: 'json_schema', name: 'animal', strict: true, schema: ANIMAL }
  const format = makeParseableTextFormat(plain, JSON.parse)
  const ask = { model: 'gemma:a', input: 'A dog.', text: { format } }
  isAnimal((await client.responses.create(ask)).output_text)
  isAnimal(JSON.stringify((await client.responses.parse(ask)).output_parsed))
  const [, final] = await helped(client, ask)
  isAnimal(JSON.stringify(final.output_parsed))
  isAnimal(deltas(await streamed(client, ask)))
  const json = await client.responses.create({ ...ask, text: { format: { type: 'json_object' } } })
  assert.equal(typeof JSON.parse(json.output_text), 'object')
}

async function thinks(client) {
  const ask = { model: 'thinky', input: SNOW, reasoning: { effort: 'low', summary: 'auto' } }
  const once = await client.responses.create(ask)
  const [thought] = once.output
  assert.deepEqual(kindsOf(once.output), ['reasoning', 'message'])
  assert.equal(thought.summary[0].text, 'Snow is white, so it is white.')
  assert.equal(once.output_text, 'Yes, snow is white.\n')
  const events = await streamed(client, ask)
  assert.equal(deltas(events, 'reasoning_summary_text'), thought.summary[0].text)
  // the helper fails on a piece of a summary part that was not added before
  const [kinds, final] = await helped(client, ask)
  assert.ok(kinds.includes('response.reasoning_summary_part.added') && kinds.includes('response.reasoning_summary_part.done'))
  assert.deepEqual([final.output[0].summary, final.output_text], [thought.summary, once.output_text])
  const silent = await client.responses.create({ ...ask, reasoning: { effort: 'none' } })
  assert.deepEqual(kindsOf(silent.output), ['message'])
  const more = await client.responses.create({ ...ask, input: [...SNOW, ...once.output, ...SNOW] })
  assert.ok(more.usage.input_tokens > once.usage.input_tokens, 'what it thought comes back')
}

async function sees(client) {
  const looksAt = (image_url) => [
    {
      role: 'user',
      content: [{ type: 'input_text', text: 'What is it?' }, { type: 'input_image', detail: 'auto', image_url }],
    },
  ]
  const texts = []
  for (const picture of [BLUE, RED]) {
    const ask = { model: 'seer', input: looksAt(`data:image/png;base64,${picture}`), max_output_tokens: 12 }
    const once = await client.responses.create(ask)
    assert.ok(once.usage.input_tokens > 100, 'a picture is tokens too')
    texts.push(once.output_text)
    assert.equal(deltas(await streamed(client, ask)), texts.at(-1), 'streamed as at once')
  }
  assert.notEqual(texts[0], texts[1], 'it sees what is different')
  for (const [model, url, part] of [
    ['gemma:a', `data:image/png;base64,${BLUE}`, /does not support multimodal requests/],
    ['seer', 'https://example.com/x.png', /image URLs are not currently supported/],
    ['seer', 'data:image/gif;base64,R0lGODlh', /invalid image input/],
  ]) {
    for (const stream of [false, true]) {
      const call = () => client.responses.create({ model, input: looksAt(url), stream })
      assert.match((await refused(OpenAI.BadRequestError, call)).message, part)
    }
  }
}

/** What an application with a store of its own does: list, embed, then ask. */
async function finds(client) {
  assert.ok((await all(await client.models.list())).some(({ id }) => id === 'gemma:a'))
  const found = await client.embeddings.create({ model: 'tinybert', input: 'Why is the sky blue?' })
  assert.ok(found.data[0].embedding.length)
  assert.ok((await client.responses.create({ ...SHORT, instructions: 'The sky scatters blue light.' })).output_text)
}

async function headers(client) {
  for (const call of [client.responses.create(SHORT), client.responses.create({ ...SHORT, stream: true })]) {
    const { data, response, request_id } = await call.withResponse()
    assert.equal(response.headers.get('x-ratelimit-limit-requests'), '6000')
    assert.ok(request_id && request_id === response.headers.get('x-request-id'))
    if (Symbol.asyncIterator in data) await all(data)
  }
  const raw = await client.responses.create({ ...SHORT, stream: true }).asResponse()
  assert.equal(raw.headers.get('content-type'), 'text/event-stream')
  assert.match(await raw.text(), /\n\nevent: response.completed\ndata: [^\n]*\n\n$/)
}

async function refusals() {
  for (const stream of [false, true]) {
    const wrong = await refused(OpenAI.AuthenticationError, () => byHeader('gk_nothing').responses.create({ ...SHORT, stream }))
    assert.doesNotMatch(wrong.message, /gk_nothing/, "a key in an error's text")
    const create = (more) => () => byHeader().responses.create({ ...SHORT, stream, ...more })
    assert.match((await refused(OpenAI.NotFoundError, create({ model: 'nowhere' }))).message, /nowhere/)
    assert.match((await refused(OpenAI.PermissionDeniedError, create({ model: 'stamped' }))).message, /stamped/)
    for (const [field, value] of [
      ['previous_response_id', 'resp_1'],
      ['conversation', 'conv_1'],
      ['background', true],
      ['tools', [{ type: 'web_search' }]],
      ['tool_choice', 'required'],
      ['truncation', 'middle'],
    ]) {
      const error = await refused(OpenAI.BadRequestError, create({ [field]: value }))
      assert.ok(error.param.startsWith(field) && error.message.includes(field), error.message)
      assert.deepEqual([error.type, error.code], ['invalid_request_error', 'bad_request'])
    }
    for (const [field, value] of [['temperature', 'hot'], ['input', 7], ['input', [{ type: 'item_reference' }]]]) {
      assert.ok((await refused(OpenAI.BadRequestError, create({ [field]: value }))).message.includes(field))
    }
    assert.match((await refused(OpenAI.BadRequestError, create({ tools: [TOOL] }))).message, /does not support tools/)
  }
  await refused(OpenAI.NotFoundError, () => byHeader().responses.retrieve('resp_1'))

  const throttled = byHeader(THROTTLED)
  await throttled.responses.create(SHORT)
  for (const stream of [false, true]) {
    const error = await refused(OpenAI.RateLimitError, () => throttled.responses.create({ ...SHORT, stream }))
    assert.match(error.message, /per minute/)
    assert.ok(Number(error.headers.get('retry-after')) > 0)
  }
}

/** The only slot is taken: a client that may not wait, then one that will not. */
async function queued() {
  const now = byHeader().withOptions({ defaultHeaders: { 'X-Gaucho-Deadline': '0' } })
  for (const [kind, part, client] of [
    [OpenAI.RateLimitError, /max_queued/, byHeader(HASTY)],
    [OpenAI.InternalServerError, /X-Gaucho-Deadline/, now],
  ]) {
    for (const call of [
      () => client.responses.create(LONG),
      () => client.responses.create({ ...LONG, stream: true }),
      () => client.responses.stream(LONG).finalResponse(),
    ]) {
      const error = await refused(kind, call)
      assert.match(error.message, part)
      assert.ok(Number(error.headers.get('retry-after')) > 0)
    }
  }
}

async function everyday() {
  for (const client of [byHeader(), byPath()]) {
    for (const part of [answers, calls, shapes, thinks, sees, finds, headers]) await part(client)
  }
  const client = byHeader()
  const four = await Promise.all([1, 2, 3, 4].map(async () => (await helped(client, SHORT))[1].output_text))
  assert.ok(four[0] && new Set(four).size === 1, 'several at once')
  await refusals()
}

/** A stream that gave two pieces and then failed, which is an event here and no exception. */
function brokeOff(events) {
  const { type, response } = events.at(-1)
  assert.deepEqual([type, response.status, response.error.code], ['response.failed', 'failed', 'server_error'])
  say(`the error reads: ${response.error.message}`)
  assert.ok(response.error.message)
  assert.equal(events.filter(({ type }) => type === 'response.output_text.delta').length, 2)
  assert.equal(response.output[0].content[0].text, deltas(events), 'what was said is there')
  assert.ok(!kindsOf(events).includes('response.completed'))
}

/** Faults come in this order: five for streams, one for an answer at once. */
async function broken() {
  await told()
  const client = byHeader()
  for (let i = 0; i < 4; i++) brokeOff(await all(await client.responses.create({ ...LONG, stream: true })))
  const stream = client.responses.stream(LONG)
  brokeOff(await all(stream))
  assert.equal((await stream.finalResponse()).status, 'failed')
  await refused(OpenAI.InternalServerError, () => client.responses.create(LONG))
  assert.ok((await client.responses.create(SHORT)).output_text, 'the next one is answered')
}

async function leaves() {
  const client = byHeader()
  for await (const event of client.responses.stream(LONG)) {
    assert.notEqual(event.type, 'response.completed')
    if (event.type === 'response.output_text.delta') break
  }
  say('left')
  await told()
  await leaveUnanswered(OpenAI.APIUserAbortError, (signal) => client.responses.create(LONG, { signal }))
  assert.ok((await client.responses.create({ ...SHORT, max_output_tokens: 3 })).output_text, 'the slot is free again')
}

/** The slot is taken; comment lines come until it is free. */
async function waits() {
  const client = byHeader()
  const stream = await client.responses.create({ ...SHORT, stream: true }, { headers: { 'X-Gaucho-Keepalive': '1s' } })
  say('waiting')
  const events = await all(stream)
  assert.deepEqual([events[0].type, events.at(-1).type], ['response.created', 'response.completed'])
  assert.equal(deltas(events), (await client.responses.create(SHORT)).output_text, 'the same as without waiting')
}

await run({ everyday, broken, leaves, waits, queued })
