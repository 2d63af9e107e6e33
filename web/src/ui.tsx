// Parts that all pages share.
import { signal } from '@preact/signals';
import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import type { State } from './api';
import { t, told, type Text } from './i18n';

/** States have shapes as well as colours. */
const SHAPES: Record<State, string> = {
  waiting: 'M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2m0 2.5V8l2.5 1.5',
  starting: 'M8 2a6 6 0 0 1 6 6',
  running: 'M5 3l8 5-8 5z',
  moving: 'M2 8h11M9 4l4 4-4 4',
  succeeded: 'M3 8.5l3.5 3.5L13 4.5',
  failed: 'M4 4l8 8M12 4l-8 8',
  cancelled: 'M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2M4 12l8-8',
};

export function Mark({ state }: { state: State }) {
  return (
    <svg class={`mark is-${state}`} viewBox="0 0 16 16" aria-hidden="true">
      <path d={SHAPES[state]} fill={state === 'running' ? 'currentColor' : 'none'} />
    </svg>
  );
}

export function StateBadge({ state }: { state: State }) {
  return (
    <span class={`state is-${state}`}>
      <Mark state={state} />
      {t(state)}
    </span>
  );
}

const NODE_SHAPES: Record<string, string> = {
  ready: 'M8 3.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9z',
  cordoned: 'M3 3h10v10H3zM3 13L13 3',
  lost: 'M8 2l6.5 11.5h-13zM8 6.5v3M8 11.6v.4',
};

export function NodeState({ state }: { state: string }) {
  return (
    <span class={`state node-${state}`}>
      <svg class="mark" viewBox="0 0 16 16" aria-hidden="true">
        <path d={NODE_SHAPES[state] ?? NODE_SHAPES.lost!} fill={state === 'ready' ? 'currentColor' : 'none'} />
      </svg>
      {state in NODE_SHAPES ? t(state as Text) : state}
    </span>
  );
}

/** How much of something is taken: a bar, and what it says. */
export function Bar({ part, of, label, text, good }: { part: number; of: number; label: string; text: string; good?: boolean }) {
  const share = of > 0 ? Math.min(1, part / of) : 0;
  return (
    <div class="bar" role="meter" aria-label={label} aria-valuemin={0} aria-valuemax={100} aria-valuenow={Math.round(share * 100)} aria-valuetext={text}>
      <span class="bar-label">{label}</span>
      <span class="bar-text">{text}</span>
      <span class="bar-track">
        <span class={share > 0.9 && !good ? 'bar-fill is-full' : 'bar-fill'} style={{ width: `${share * 100}%` }} />
      </span>
    </div>
  );
}

interface Toast {
  id: number;
  text: string;
  bad: boolean;
}
const toasts = signal<Toast[]>([]);
let count = 0;
export function say(text: string, bad = false) {
  const id = ++count;
  toasts.value = [...toasts.value.slice(-3), { id, text, bad }];
  setTimeout(() => drop(id), bad ? 12_000 : 5000);
}
const drop = (id: number) => (toasts.value = toasts.value.filter((toast) => toast.id !== id));
export const complain = (e: unknown) => say(told(e instanceof Error ? e.message : String(e)), true);

export function Toasts() {
  const ref = useRef<HTMLDivElement>(null);
  const newest = toasts.value.at(-1)?.id;
  useEffect(() => {
    const element = ref.current!;
    // Over a dialog is only what has come to the top after it. A browser that has no popovers shows them below.
    if (!element.showPopover) return;
    if (element.matches(':popover-open')) element.hidePopover();
    if (newest !== undefined) element.showPopover();
  }, [newest]);
  return (
    <div class="toasts" role="status" aria-live="polite" ref={ref} popover="manual">
      {toasts.value.map((toast) => (
        <div key={toast.id} class={toast.bad ? 'toast is-bad' : 'toast'}>
          <span>{toast.text}</span>
          <button class="plain" aria-label={t('Close')} onClick={() => drop(toast.id)}>
            ×
          </button>
        </div>
      ))}
    </div>
  );
}

/** A button that does something which takes a while, and says what came of it. */
export function Act({
  act,
  done,
  children,
  ...rest
}: { act: () => Promise<unknown>; done?: string; children: ComponentChildren } & Omit<JSX.IntrinsicElements['button'], 'onClick'>) {
  const [busy, setBusy] = useState(false);
  const run = async () => {
    setBusy(true);
    try {
      await act();
      if (done) say(done);
    } catch (e) {
      complain(e);
    } finally {
      setBusy(false);
    }
  };
  return (
    <button {...rest} disabled={busy || rest.disabled} aria-busy={busy} onClick={() => void run()}>
      {children}
    </button>
  );
}

/** A window over the page; the browser keeps the keyboard in it, and Escape closes it. */
export function Dialog({ title, close, children }: { title: string; close: () => void; children: ComponentChildren }) {
  const ref = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const dialog = ref.current!;
    dialog.showModal();
    return () => dialog.close();
  }, []);
  return (
    <dialog ref={ref} aria-labelledby="dialog-title" onCancel={(e) => (e.preventDefault(), close())} onClick={(e) => e.target === ref.current && close()}>
      <header>
        <h2 id="dialog-title">{title}</h2>
        <button class="plain" aria-label={t('Close')} onClick={close}>
          ×
        </button>
      </header>
      <div class="dialog-body">{children}</div>
    </dialog>
  );
}

/** Asks before something that cannot be undone. */
export function Sure({ title, text, word, act, close }: { title: string; text: string; word: string; act: () => Promise<unknown>; close: () => void }) {
  return (
    <Dialog title={title} close={close}>
      <p>{text}</p>
      <p class="actions">
        <Act class="bad" act={() => act().then(close)}>
          {word}
        </Act>
        <button onClick={close}>{t('Back')}</button>
      </p>
    </Dialog>
  );
}

/** Something to copy; `bare` if it need not be seen again. */
export function Copied({ text, bare }: { text: string; bare?: boolean }) {
  const [done, setDone] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text).catch(() => {});
    setDone(true);
    setTimeout(() => setDone(false), 1500);
  };
  if (bare) return <button onClick={() => void copy()}>{done ? t('Copied') : t('Copy all')}</button>;
  return (
    <div class="copied">
      <code tabIndex={0}>{text}</code>
      <button onClick={() => void copy()}>{done ? t('Copied') : t('Copy')}</button>
    </div>
  );
}

/** The time, every second or so. */
export function useNow(every = 1000): number {
  const [now, set] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => set(Date.now()), every);
    return () => clearInterval(timer);
  }, [every]);
  return now;
}

export function Title({ text, children }: { text: string; children?: ComponentChildren }) {
  useEffect(() => {
    document.title = `${text} · Wayfare`;
  }, [text]);
  return (
    <div class="title">
      <h1>{text}</h1>
      {children}
    </div>
  );
}
