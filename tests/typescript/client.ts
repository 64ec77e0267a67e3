// What a program does first: sign in, make an image, find it again, get something wrong. Prints what came, as JSON.
import { createClient } from "./generated/client/index.js";
import { generateBasic, listHistory, readImageBytes, signInGuest } from "./generated/index.js";
import type { BasicBody, ErrorResponse } from "./generated/index.js";

const baseUrl = process.argv[2];
if (baseUrl === undefined) {
    throw new Error("usage: node client.js BASE_URL");
}
const nobody = createClient({ baseUrl });

const signedIn = await signInGuest({ client: nobody, body: {}, throwOnError: true });
const { access_token: token, user } = signedIn.data;
// The generator asks for each way of signing in that a route takes; as a plain string the token would go out as an own
// key too.
const guest = createClient({ baseUrl, auth: (way) => (way.scheme === "bearer" ? token : undefined) });

const wish: BasicBody = { prompt: "a lighthouse at dusk", aspect_ratio: "1:1", safety_level: "strict" };
const made = await generateBasic({ client: guest, body: wish, throwOnError: true });
const image = made.data.data;
if (!("image_url" in image)) {
    throw new Error("a task, for which nobody asked by `Prefer`");
}
if (image.history_id === null) {
    throw new Error("the image was not kept");
}

const history = await listHistory({ client: guest, query: { limit: 5, mode: "basic" }, throwOnError: true });
const bytes = await readImageBytes({ client: guest, path: { image_id: image.history_id }, throwOnError: true });

const refusal = await generateBasic({ client: nobody, body: wish });
const error: ErrorResponse | undefined = refusal.error;

console.log(
    JSON.stringify({
        user,
        image,
        history: history.data,
        bytes: bytes.data.size,
        refusal: { status: refusal.response?.status, code: error?.error.code },
    }),
);
