// ajv accepts every shipped config, and refuses each bad config that a schema can refuse.
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import Ajv2020 from "ajv/dist/2020.js";
import { parse } from "yaml";

const root = process.argv[2];
const schema = JSON.parse(readFileSync(join(root, "schemas/ebpf-run.schema.json"), "utf8"));
const formats = Object.fromEntries(["time-span", "size", "percent", "mode", "time-of-day", "uint32", "uint64"].map((name) => [name, true]));
const ajv = new Ajv2020({ allErrors: true, strictTypes: false, formats });
ajv.addVocabulary(["x-environment"]); // where the runner asks the environment: nothing for a validator
const valid = ajv.compile(schema);

// Problems of the structure, or of one program's filters, maps and fields. The others need arithmetic, templates or more
// than one place of the file.
const catchable = "E010 E011 E012 E013 E014 E015 E016 E020 E021 E022 E028 E029 E030 E031 E032 E033 E034 E035 E040".split(" ");
const beyond = {
  "quantity-beyond-64-bits": "arithmetic",
  "include-without-sinks": "what is in other files",
  "default-filter-that-a-program-lacks": "which programs there are",
  "environment-number": "what the environment holds",
  "misplaced-top": "whether an aggregate is a histogram",
  "blank-duration": "a key without a value, which JSON has no word for",
  "events-of-more-than-64-bits": "arithmetic",
  "limits-that-nothing-passes": "arithmetic",
  "period-of-a-clock-too-short": "arithmetic",
  "period-zero": "which number is how often",
  "version-with-a-fraction": "1.0, which is 1 for JSON",
};

let problems = 0;
const complain = (text) => { problems += 1; console.error(text); };
const yamls = (directory) => readdirSync(join(root, directory)).filter((name) => name.endsWith(".yaml")).sort();
const read = (directory, name) => readFileSync(join(root, directory, name), "utf8");

let good = 0;
for (const directory of ["probes.d", "examples"]) {
  for (const name of yamls(directory)) {
    good += 1;
    if (!valid(parse(read(directory, name)))) complain(`${directory}/${name} is refused: ${JSON.stringify(valid.errors)}`);
  }
}

const count = { caught: 0, beyond: 0, yaml: 0 };
for (const name of yamls("tests/bad")) {
  const text = read("tests/bad", name);
  // Problems in other files and in arguments have a name before their place
  const own = text.split("\n")[0].replace("# expect: ", "").split(", ").filter((one) => /^E\d+ \d/.test(one));
  const codes = own.map((one) => one.slice(0, 4));
  if (codes.some((code) => code < "E010" || code === "E017")) { count.yaml += 1; continue; }
  const stem = name.replace(".yaml", "");
  const can = codes.some((code) => catchable.includes(code)) && !(stem in beyond);
  const caught = !valid(parse(text));
  if (can && !caught) complain(`tests/bad/${name} passes, and a schema could catch it`);
  if (!can && caught) complain(`tests/bad/${name} is refused for something else: ${JSON.stringify(valid.errors)}`);
  count[caught ? "caught" : "beyond"] += 1;
}
console.log(`ajv: ${good} shipped configs valid; of the bad ones ${count.caught} caught, ${count.beyond} beyond a schema, ` +
  `${count.yaml} faults of the YAML itself`);
process.exit(problems ? 1 : 0);
