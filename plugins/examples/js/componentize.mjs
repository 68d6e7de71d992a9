import { writeFile } from "node:fs/promises";
const { componentize } = await import(process.env.COMPONENTIZE_JS ?? "@bytecodealliance/componentize-js");

// With http the component would import wasi:http, which is not served. The other features stay: what is printed, and the words and the
// stack of an exception that nobody catches, are in the plugin's log.
const { component } = await componentize({
  sourcePath: "checker.js",
  witPath: "../../../wit/mail/0.1.0",
  worldName: "configured-filter",
  disableFeatures: ["http", "fetch-event"],
});
await writeFile(process.argv[2], component);
