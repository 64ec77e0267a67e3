// Calls that the document rules out. Each line with an error code behind it must be refused with that one, no other line.
import { createClient } from "./generated/client/index.js";
import { generateBasic, listHistory, readImage, signInGuest } from "./generated/index.js";
import type { Role } from "./generated/index.js";

const client = createClient({ baseUrl: "http://127.0.0.1" });

await signInGuest({ client }); // TS2345
await generateBasic({ client, body: { aspect_ratio: "1:1" } }); // TS2741
await generateBasic({ client, body: { prompt: "a lighthouse", size: "1K" } }); // TS2353
await generateBasic({ client, body: { prompt: "a lighthouse", resolution: 1024 } }); // TS2322
await generateBasic({ client, body: { prompt: "a lighthouse", safety_level: "lax" } }); // TS2322
await listHistory({ client, query: { limit: "5" } }); // TS2322
await listHistory({ client, query: { mode: null } }); // TS2322
await readImage({ client, path: { id: "img_1" } }); // TS2353

const { data } = await listHistory({ client });
export const total: number = data.total; // TS18048
export const first: string = data?.items[0].id ?? ""; // TS2532

const made = await generateBasic({ client, body: { prompt: "a lighthouse" }, throwOnError: true });
const image = made.data.data;
export const unsure: string = image.task_id; // TS2339
if (!("image_url" in image)) {
    throw new Error("a task, for which nobody asked by `Prefer`");
}
export const address: string = image.image_url; // TS2322
export const gone: undefined = image.history_id ?? undefined; // TS2322
export const role: Role = "owner"; // TS2322
