//! A collector of spans: takes them by OTLP over HTTP, and keeps them; or takes them and says nothing.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use prost::Message;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A span, as far as tests look at it.
#[derive(Clone, Debug)]
pub struct Span {
    pub name: String,
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub is_error: bool,
    attributes: Vec<(String, String)>,
    resource: Vec<(String, String)>,
}

impl Span {
    /// An attribute, as text; of the span, or else of whose it is.
    pub fn get(&self, key: &str) -> Option<&str> {
        let all = self.attributes.iter().chain(&self.resource);
        all.into_iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

/// A collector on this machine.
pub struct Collector {
    pub url: String,
    taken: Arc<Mutex<Vec<Span>>>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Collector {
    /// Answers, or never does.
    pub fn new(answers: bool) -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (taken, heads) = (Arc::default(), Arc::default());
        let collector = Collector { url, taken: Arc::clone(&taken), heads: Arc::clone(&heads) };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (taken, heads) = (taken.clone(), heads.clone());
                std::thread::spawn(move || serve(stream.unwrap(), answers, &taken, &heads));
            }
        });
        collector
    }

    /// All that have come.
    pub fn spans(&self) -> Vec<Span> {
        self.taken.lock().unwrap().clone()
    }

    /// The first lines of what was asked, with the headers.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// Until the other side closes.
fn serve(stream: TcpStream, answers: bool, taken: &Mutex<Vec<Span>>, heads: &Mutex<Vec<String>>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut head, mut len) = (String::new(), 0);
        while !head.ends_with("\r\n\r\n") {
            let from = head.len();
            if stream.read_line(&mut head).ok()? == 0 {
                return None;
            }
            let line = head[from..].to_ascii_lowercase();
            if let Some(said) = line.strip_prefix("content-length:") {
                len = said.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; len];
        stream.read_exact(&mut body).ok()?;
        heads.lock().unwrap().push(head);
        if !answers {
            continue;
        }
        taken.lock().unwrap().extend(spans(&body));
        let kind = "content-type: application/x-protobuf";
        stream
            .get_mut()
            .write_all(format!("HTTP/1.1 200 OK\r\n{kind}\r\ncontent-length: 0\r\n\r\n").as_bytes())
            .ok()?;
    }
}

fn spans(body: &[u8]) -> Vec<Span> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let said = ExportTraceServiceRequest::decode(body).unwrap();
    let mut all = Vec::new();
    for of in said.resource_spans {
        let resource = pairs(of.resource.map(|resource| resource.attributes).unwrap_or_default());
        for span in of.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            all.push(Span {
                name: span.name,
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                is_error: span.status.is_some_and(|status| status.code == 2),
                attributes: pairs(span.attributes),
                resource: resource.clone(),
            });
        }
    }
    all
}

fn pairs(all: Vec<KeyValue>) -> Vec<(String, String)> {
    let text = |value: Option<AnyValue>| match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(n)) => n.to_string(),
        Some(Value::DoubleValue(n)) => n.to_string(),
        Some(Value::BoolValue(is)) => is.to_string(),
        other => format!("{other:?}"),
    };
    all.into_iter().map(|pair| (pair.key, text(pair.value))).collect()
}
