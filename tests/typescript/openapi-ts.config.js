/** How a client is made: `openapi-ts --input http://127.0.0.1:8000/openapi.json`. Node wants imports with an extension. */
export default {
    output: { path: "generated", module: { extension: ".js" } },
    logs: { file: false },
};
