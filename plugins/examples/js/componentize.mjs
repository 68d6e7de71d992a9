import { writeFile } from "node:fs/promises";
const { componentize } = await import(process.env.COMPONENTIZE_JS ?? "@bytecodealliance/componentize-js");

// All features off: the component then imports nothing but the contract.
const { component } = await componentize({
  sourcePath: "checker.js",
  witPath: "../../../wit/mail/0.1.0",
  worldName: "configured-filter",
  disableFeatures: ["random", "stdio", "clocks", "http", "fetch-event"],
});
await writeFile(process.argv[2], component);
