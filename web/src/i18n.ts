// The page's words in two languages. English is what stands in the code; whatever stands there and is missing in Chinese does not
// pass the type check. What the controller says (reasons, errors) comes in English.
import { signal } from '@preact/signals';
import { zh } from './zh';

export type Text = keyof typeof zh;
export type Language = 'en' | 'zh';

function first(): Language {
  const kept = localStorage.getItem('language');
  if (kept === 'en' || kept === 'zh') return kept;
  return navigator.language.toLowerCase().startsWith('zh') ? 'zh' : 'en';
}

export const language = signal<Language>(first());
language.subscribe((now) => {
  document.documentElement.lang = now === 'zh' ? 'zh-CN' : 'en';
});

export function speak(now: Language) {
  localStorage.setItem('language', now);
  language.value = now;
}

export function t(text: Text, values?: Record<string, string | number>): string {
  const said = language.value === 'zh' ? zh[text] : text;
  return values ? said.replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole)) : said;
}
