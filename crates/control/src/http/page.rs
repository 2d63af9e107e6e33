//! The web page: files that are built into the program, given to whoever asks, as there is nothing secret in them. What the page shows
//! it asks the API for, with the cookie of a session.

use super::{Failed, failed};
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, Method, Uri, header};
use axum::response::{IntoResponse, Response};

/// A file of the page.
struct File {
    name: &'static str,
    bytes: &'static [u8],
    /// As Brotli has it.
    packed: Option<&'static [u8]>,
}

static FILES: &[File] = include!(concat!(env!("OUT_DIR"), "/page.rs"));

/// What the page is when it was not built: these, as plain as they are.
static NONE: &[File] = &[
    File { name: "index.html", bytes: include_bytes!("unbuilt.html"), packed: None },
    File { name: "unbuilt.css", bytes: include_bytes!("unbuilt.css"), packed: None },
];

/// Where the page's router shows something: whatever stands behind.
const PLACES: [&str; 5] = ["tasks", "submit", "nodes", "standbys", "access"];

/// Nothing from elsewhere, no script or style in the markup, in nobody's frame.
const GUARDS: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
];

/// Answers what no route of the API does: a file of the page, the page itself at its places, or that there is nothing.
pub(super) async fn page(method: Method, uri: Uri, headers: HeaderMap) -> Result<Response, Failed> {
    let path = uri.path().trim_start_matches('/');
    let is_looking = matches!(method, Method::GET | Method::HEAD);
    let name = match path.split('/').next() {
        Some(first) if first.is_empty() || PLACES.contains(&first) => "index.html",
        _ => path,
    };
    let files = if FILES.is_empty() { NONE } else { FILES };
    let mut answer = match files.iter().find(|file| file.name == name) {
        Some(file) if is_looking => give(file, &headers),
        _ => return Err(failed(404, "there is nothing here: /openapi.json says what there is")),
    };
    for (name, value) in GUARDS {
        answer.headers_mut().insert(name, header::HeaderValue::from_static(value));
    }
    Ok(answer)
}

fn give(file: &File, headers: &HeaderMap) -> Response {
    let says = |name: HeaderName, word: &str| {
        headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).any(|value| value.contains(word))
    };
    // Weak: the packed form is other bytes.
    let mark = format!("W/\"{}\"", &blake3::hash(file.bytes).to_hex()[..16]);
    // The names of assets change with what is in them.
    let keep = if file.name.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let kept = [
        (header::CACHE_CONTROL, keep.to_string()),
        (header::ETAG, mark.clone()),
        (header::VARY, "Accept-Encoding".into()),
    ];
    if says(header::IF_NONE_MATCH, &mark) {
        return (axum::http::StatusCode::NOT_MODIFIED, kept).into_response();
    }
    let kind = [(header::CONTENT_TYPE, kind(file.name))];
    match file.packed.filter(|_| says(header::ACCEPT_ENCODING, "br")) {
        Some(packed) => (kept, kind, [(header::CONTENT_ENCODING, "br")], Bytes::from_static(packed)).into_response(),
        None => (kept, kind, Bytes::from_static(file.bytes)).into_response(),
    }
}

fn kind(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(method: Method, path: &str) -> Option<Response> {
        page(method, path.parse().unwrap(), HeaderMap::new()).await.ok()
    }

    #[tokio::test]
    async fn the_page_is_at_its_places_and_nowhere_else() {
        for path in ["/", "/tasks", "/tasks/a%20b", "/nodes", "/submit", "/standbys"] {
            let answer = ask(Method::GET, path).await.unwrap();
            assert_eq!(answer.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8", "{path}");
            let policy = answer.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
            assert!(policy.contains("script-src 'self';") && policy.contains("frame-ancestors 'none'"), "{policy}");
        }
        for path in ["/v1/nothing", "/assets/../build.rs", "/assets/nothing.js", "/favicon.ico"] {
            assert!(ask(Method::GET, path).await.is_none(), "{path}");
        }
        assert!(ask(Method::POST, "/").await.is_none());
    }

    #[test]
    fn the_page_that_was_not_built_says_so_and_breaks_no_rule_of_its_own() {
        let text = |name| std::str::from_utf8(NONE.iter().find(|file| file.name == name).unwrap().bytes).unwrap();
        let (html, css) = (text("index.html"), text("unbuilt.css"));
        for says in ["./x build", "/openapi.json", "lang=\"zh-CN\"", "href=\"/unbuilt.css\""] {
            assert!(html.contains(says), "{says}");
        }
        // The policy would drop what stands inline or is elsewhere.
        assert!(
            !html.contains("style=") && !html.contains("<style") && !html.contains("<script") && !html.contains("//")
        );
        assert!(!css.contains("url(") && css.contains("prefers-color-scheme: dark"));
    }

    #[test]
    fn what_is_known_is_not_sent_again_and_what_is_packed_is_sent_so() {
        let file = File { name: "assets/a.js", bytes: b"plain", packed: Some(b"p") };
        let ask = |name: HeaderName, value: &str| give(&file, &HeaderMap::from_iter([(name, value.parse().unwrap())]));
        let plain = give(&file, &HeaderMap::new());
        assert!(plain.headers()[header::CACHE_CONTROL].to_str().unwrap().contains("immutable"));
        assert_eq!(plain.headers().get(header::CONTENT_ENCODING), None);
        let packed = ask(header::ACCEPT_ENCODING, "gzip, br");
        assert_eq!(packed.headers()[header::CONTENT_ENCODING], "br");
        let again = ask(header::IF_NONE_MATCH, plain.headers()[header::ETAG].to_str().unwrap());
        assert_eq!(again.status(), 304);
    }
}
