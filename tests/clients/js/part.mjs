// What the scripts share: the environment, the talk with the test that started them, and calls that must fail.
import assert from 'node:assert/strict'
import { createInterface } from 'node:readline'

export const { BASE_URL: BASE, KEY, THROTTLED_KEY: THROTTLED, HASTY_KEY: HASTY } = process.env

export const QUESTION = [{ role: 'user', content: 'Why is the sky blue?' }]
export const WEATHER = [{ role: 'user', content: 'weather in Paris?' }]
export const SNOW = [{ role: 'user', content: 'Is snow white?' }]
// two pictures of one pixel
export const BLUE = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='
export const RED = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=='
export const TOOLS = [
  {
    type: 'function',
    function: {
      name: 'get_weather',
      description: 'Weather in a city',
      parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
    },
  },
]
export const ANIMAL = {
  type: 'object',
  properties: { name: { type: 'string' }, legs: { type: 'integer' }, tame: { type: 'boolean' } },
  required: ['name', 'legs', 'tame'],
}

export const say = (line) => console.log(line)

let lines
let input

/** Waits until the test says to go on. */
export async function told() {
  lines ??= createInterface({ input: process.stdin })
  input ??= lines[Symbol.asyncIterator]()
  await input.next()
}

/** The error of a call that must fail. */
export async function refused(kind, call) {
  let answer
  try {
    answer = await call()
  } catch (error) {
    assert.ok(error instanceof kind, `${error?.name}: ${error?.stack}`)
    assert.ok(error.message.trim(), 'an error without a text')
    return error
  }
  assert.fail(`it was answered: ${JSON.stringify(answer)}`)
}

/** Leaves when the test says so, while the call, which takes a signal to leave by, still waits; gives its error. */
export async function leaveUnanswered(kind, call) {
  const leave = new AbortController()
  const answer = refused(kind, () => call(leave.signal))
  await told()
  leave.abort()
  const error = await answer
  say('left')
  await told()
  return error
}

export async function all(stream) {
  const pieces = []
  for await (const piece of stream) pieces.push(piece)
  return pieces
}

/** An animal as asked for. */
export function isAnimal(text) {
  const { name, legs, tame, ...more } = JSON.parse(text)
  assert.deepEqual([typeof name, Number.isInteger(legs), typeof tame, more], ['string', true, 'boolean', {}], text)
}

/** Runs the part that the command line names. */
export async function run(parts) {
  await parts[process.argv[2]]()
  say('done')
  lines?.close()
}
