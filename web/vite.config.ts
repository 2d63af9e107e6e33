// Builds the page into target/web, outside of git, from where `cargo build` takes it into the program. Each file has a copy that
// Brotli has packed beside it: packed once here, and not by the controller for each who asks.
import { constants, brotliCompressSync } from 'node:zlib';
import { defineConfig, type Plugin } from 'vite';

function packed(): Plugin {
  return {
    name: 'packed',
    apply: 'build',
    enforce: 'post',
    generateBundle(_, bundle) {
      for (const [name, file] of Object.entries(bundle)) {
        const bytes = Buffer.from(file.type === 'chunk' ? file.code : file.source);
        const source = brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 11 } });
        this.emitFile({ type: 'asset', fileName: `${name}.br`, source });
      }
    },
  };
}

export default defineConfig({
  plugins: [packed()],
  esbuild: { jsx: 'automatic', jsxImportSource: 'preact' },
  build: {
    outDir: process.env.WEB_OUT ?? '../target/web',
    emptyOutDir: true,
    target: 'es2021',
    // What is small is not put into the text either: the policy allows nothing inline.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  // For work on the page: `npx vite`, beside a controller.
  server: { proxy: { '^/(v1|openapi.json)': process.env.WAYFARE_URL ?? 'http://127.0.0.1:7700' } },
  test: { include: ['src/**/*.test.ts'] },
} as Parameters<typeof defineConfig>[0]);
