// Who are you? A token says so; from then on a cookie does that this page cannot read.
import { useState } from 'preact/hooks';
import { t, told } from './i18n';
import { Choices } from './main';
import { signIn } from './store';
import { Title } from './ui';

export function SignIn() {
  const [token, setToken] = useState('');
  const [wrong, setWrong] = useState('');
  const [busy, setBusy] = useState(false);
  const submit = async (e: Event) => {
    e.preventDefault();
    setBusy(true);
    setWrong('');
    await signIn(token.trim()).catch((e: Error) => setWrong(e.message));
    setBusy(false);
  };
  return (
    <main class="signin" id="main">
      <form onSubmit={(e) => void submit(e)}>
        <Title text={t('Sign in')} />
        <label>
          {t('Token')}
          <input
            type="password"
            autocomplete="current-password"
            autofocus
            spellcheck={false}
            value={token}
            aria-invalid={wrong ? true : undefined}
            aria-describedby="signin-help"
            onInput={(e) => setToken(e.currentTarget.value)}
          />
        </label>
        <p class="wrong" role="alert">
          {told(wrong)}
        </p>
        <button class="main" disabled={busy || !token.trim()}>
          {t('Sign in')}
        </button>
        <p class="quiet" id="signin-help">
          {t('`wayfare up` shows an address that signs in; the token is in')} <code>controller/access.json</code>{' '}
          {t("in the node's directory, too.")}
        </p>
        <p class="choices">
          <Choices />
        </p>
      </form>
    </main>
  );
}
