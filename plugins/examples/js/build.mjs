import { componentize } from "@bytecodealliance/componentize-js";
import { writeFile } from "node:fs/promises";

// All features off: the component then imports nothing but the contract.
const { component } = await componentize({
  sourcePath: "checker.js",
  witPath: process.env.WIT ?? "../../../wit/mail/0.1.0",
  worldName: "configured-filter",
  disableFeatures: ["random", "stdio", "clocks", "http", "fetch-event"],
});
await writeFile(process.argv[2] ?? "checker.wasm", component);
