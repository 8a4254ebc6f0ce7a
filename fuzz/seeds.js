// Writes the seeds of the fuzz targets out of the recordings: node fuzz/seeds.js <recordings> <folder>.
// The first bytes of each seed are those that its target reads as settings (see fuzz_targets/).
"use strict";
const fs = require("fs");
const path = require("path");

const [recordings, folder] = process.argv.slice(2);
const surfaces = ["/api/chat", "/api/generate", "/api/embed", "/api/embeddings", "/v1/chat/completions",
  "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages"];
const tasks = ["/api/chat", "/api/generate", "/api/embed", "/api/embeddings"];
let count = 0;

function seed(target, head, body) {
  const where = path.join(folder, target);
  fs.mkdirSync(where, { recursive: true });
  fs.writeFileSync(path.join(where, `seed-${count++}`), Buffer.concat([Buffer.from(head), Buffer.from(body)]));
}

for (const name of fs.readdirSync(recordings).sort().filter((name) => name.endsWith(".json"))) {
  const { case: asked, response } = JSON.parse(fs.readFileSync(path.join(recordings, name), "utf8"));
  const route = String(asked.path).split("?")[0];
  const body = typeof asked.body === "string" ? asked.body : JSON.stringify(asked.body ?? null);
  const reply = (response.frames ?? []).map((frame) => frame[1]).join("");
  if (surfaces.includes(route) && body.length < 8000) {
    seed("requests", [surfaces.indexOf(route)], body);
    seed("json", [], body);
  }
  if (route === "/api/show") seed("requests", [255], body);
  if (tasks.includes(route) && reply.length < 8000) {
    seed("replies", [tasks.indexOf(route)], reply);
    seed("lines", [255, 3, 17, 1], reply);
    seed("json", [], reply.split("\n")[0]);
  }
  if (reply.length < 2000) seed("frames", [5, 1], reply);
}
for (const text of ['"a\\u00e9\\ud83c\\udf89\\ud800b"', "[1,-0.5e+3,true,null]", '{"a":{"b":[{}]}}']) seed("json", [], text);
for (const text of ["a\u2028b", "tea\r\n\r\ndata: [DONE]\n\n: c", "é🎉日本"]) seed("frames", [1, 2], text);
for (const surface of surfaces) for (const lead of ["/k/gk_1_x", "gk_1_x/", ""]) seed("paths", [], lead + surface + "?a=b");
for (const text of ["/", "*", "//k/x", "/k", "x:1", "%2f/api/chat", "a#b/c"]) seed("paths", [], text);
