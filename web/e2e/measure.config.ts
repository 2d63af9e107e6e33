// What the page costs: `./x bench web`.
import base from '../playwright.config';

export default { ...base, testDir: '.', testMatch: 'measure.ts', timeout: 240_000, outputDir: '../../target/web-tests' };
