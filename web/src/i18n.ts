// The page's words in two languages. English is what stands in the code; whatever stands there and is missing in Chinese does not
// pass the type check. What the controller says (reasons, errors) comes in English, as sentences of known forms.
import { signal } from '@preact/signals';
import type * as Chinese from './chinese';

export type Text = keyof typeof Chinese.zh;
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

let chinese: typeof Chinese | undefined;
/** Brings what a language is made of: to be done before it is spoken. */
export async function learn(now: Language) {
  if (now === 'zh') chinese ??= await import('./chinese');
}

export async function speak(now: Language) {
  await learn(now);
  localStorage.setItem('language', now);
  language.value = now;
}

export function t(text: Text, values?: Record<string, string | number>): string {
  const said: string = language.value === 'zh' && chinese ? chinese.zh[text] : text;
  return values ? said.replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole)) : said;
}

/** What the controller has said; as it came, where that has no form that is known. */
export function told(text: string): string {
  return (language.value === 'zh' ? chinese?.inChinese(text) : undefined) ?? text;
}
