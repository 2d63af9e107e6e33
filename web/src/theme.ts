// Light or dark: as the system has it, until somebody says otherwise.
import { signal } from '@preact/signals';

export type Theme = 'auto' | 'light' | 'dark';
const kept = localStorage.getItem('theme');
export const theme = signal<Theme>(kept === 'light' || kept === 'dark' ? kept : 'auto');
theme.subscribe((now) => {
  document.documentElement.dataset.theme = now;
  localStorage.setItem('theme', now);
});
