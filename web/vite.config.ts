// Builds the page into target/web, outside of git, from where `cargo build` takes it into the program. Each file has a copy that
// Brotli has packed beside it: packed once here, and not by the controller for each who asks.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { constants, brotliCompressSync } from 'node:zlib';
import { defineConfig, type Plugin } from 'vite';

function packed(): Plugin {
  return {
    name: 'packed',
    apply: 'build',
    // When they are written: before, others may still change what is in them.
    async writeBundle({ dir = '.' }, bundle) {
      for (const name of Object.keys(bundle)) {
        const packed = brotliCompressSync(await readFile(join(dir, name)), { params: { [constants.BROTLI_PARAM_QUALITY]: 11 } });
        await writeFile(join(dir, `${name}.br`), packed);
      }
    },
  };
}

/** `src/first.js` is a file of its own, before all others. */
function first(): Plugin {
  return {
    name: 'first',
    apply: 'build',
    async buildStart() {
      const source = (await readFile('src/first.js', 'utf8')).replace(/^\/\/.*\n/gm, '');
      this.emitFile({ type: 'asset', name: 'first.js', source });
    },
    transformIndexHtml: {
      order: 'post',
      handler(_, { bundle = {} }) {
        const name = Object.keys(bundle).find((name) => /\bfirst-[^/]*\.js$/.test(name));
        if (!name) throw new Error('src/first.js has not been emitted');
        // Before the styles, for which scripts wait that stand behind them.
        return [{ tag: 'script', attrs: { src: `/${name}` }, injectTo: 'head-prepend' }];
      },
    },
  };
}

export default defineConfig({
  plugins: [first(), packed()],
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
