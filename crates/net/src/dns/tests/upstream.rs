//! An upstream server with faults.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::AbortHandle;

/// What it does to questions by UDP. By TCP it is honest, except when it is dead or only there in part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    Dead,
    Slow(Duration),
    Garbage,
    /// Two wrong answers before the right one.
    Forged,
    /// The right number, another question.
    OtherQuestion,
    /// Cut short, with the mark; the whole by TCP.
    Truncated,
    /// The same, and TCP closes at once.
    TruncatedOnly,
    Says(ResponseCode),
    /// Records that are announced and not there.
    Hollow,
}

/// `*.example` is 192.0.2.1, `big.example` has 3,000 bytes of text, `lower.example` is answered in lower case,
/// `none.*` does not exist, for 60 seconds.
pub(super) struct Fake {
    pub(super) address: std::net::SocketAddr,
    pub(super) fault: Arc<Mutex<Fault>>,
    asked: Arc<AtomicUsize>,
    pub(super) last: Arc<Mutex<Option<Message>>>,
    tasks: [AbortHandle; 2],
}

impl Fake {
    pub(super) async fn new() -> Self {
        Self::with(Fault::None).await
    }

    pub(super) async fn with(fault: Fault) -> Self {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (Arc::new(udp), tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let (fault, asked) = (Arc::new(Mutex::new(fault)), Arc::new(AtomicUsize::new(0)));
        let last = Arc::new(Mutex::new(None));
        let by_udp = tokio::spawn(datagrams(udp, fault.clone(), asked.clone(), last.clone()));
        let by_tcp = tokio::spawn(connections(tcp, fault.clone()));
        Self { address, fault, asked, last, tasks: [by_udp.abort_handle(), by_tcp.abort_handle()] }
    }

    /// Datagrams that came.
    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

async fn datagrams(
    socket: Arc<UdpSocket>,
    fault: Arc<Mutex<Fault>>,
    asked: Arc<AtomicUsize>,
    last: Arc<Mutex<Option<Message>>>,
) {
    let mut buffer = [0; 4096];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        asked.fetch_add(1, Ordering::SeqCst);
        let message = Message::from_vec(&buffer[..length]).unwrap();
        *last.lock().unwrap() = Some(message.clone());
        let (fault, socket) = (*fault.lock().unwrap(), socket.clone());
        tokio::spawn(async move {
            if let Fault::Slow(time) = fault {
                tokio::time::sleep(time).await;
            }
            for answer in datagrams_for(fault, &message) {
                socket.send_to(&answer, from).await.unwrap();
            }
        });
    }
}

fn datagrams_for(fault: Fault, message: &Message) -> Vec<Vec<u8>> {
    let right = honest(message);
    let bytes = |message: &Message| message.to_vec().unwrap();
    match fault {
        Fault::None | Fault::Slow(_) => vec![bytes(&right)],
        Fault::Dead => vec![],
        // The number and the question are right, so that it is not taken for somebody else's.
        Fault::Garbage => vec![[&bytes(&right)[..12], &bytes(message)[12..], &[0xff; 40]].concat()],
        Fault::Forged => {
            let mut forged = right.clone();
            forged.metadata.id = right.metadata.id.wrapping_add(1);
            forged.answers[0].data = RData::A(A::new(6, 6, 6, 6));
            vec![bytes(&forged), vec![0; 3], bytes(&right)]
        }
        Fault::OtherQuestion => {
            let mut other = right;
            other.queries[0].name = Name::from_ascii("evil.example.").unwrap();
            vec![bytes(&other)]
        }
        Fault::Truncated | Fault::TruncatedOnly => {
            let mut short = right;
            short.answers.clear();
            short.metadata.truncation = true;
            vec![bytes(&short)]
        }
        Fault::Says(code) => {
            let mut refusal = right;
            refusal.answers.clear();
            refusal.metadata.response_code = code;
            vec![bytes(&refusal)]
        }
        Fault::Hollow => {
            let mut hollow = bytes(&right);
            (hollow[6], hollow[7]) = (0xff, 0xff);
            vec![hollow]
        }
    }
}

async fn connections(listener: TcpListener, fault: Arc<Mutex<Fault>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        if !matches!(*fault.lock().unwrap(), Fault::Dead | Fault::TruncatedOnly) {
            tokio::spawn(connection(stream));
        }
    }
}

async fn connection(mut stream: TcpStream) {
    while let Ok(length) = stream.read_u16().await {
        let mut bytes = vec![0; length.into()];
        stream.read_exact(&mut bytes).await.unwrap();
        let answer = honest(&Message::from_vec(&bytes).unwrap()).to_vec().unwrap();
        stream.write_u16(u16::try_from(answer.len()).unwrap()).await.unwrap();
        stream.write_all(&answer).await.unwrap();
    }
}

fn honest(question: &Message) -> Message {
    let mut answer = Message::new(question.metadata.id, MessageType::Response, question.metadata.op_code);
    answer.metadata.recursion_available = true;
    let query = question.queries[0].clone();
    let name = query.name.clone();
    answer.add_query(query.clone());
    if let Some(edns) = &question.edns {
        answer.set_edns(edns.clone());
    }
    let text = name.to_ascii().to_ascii_lowercase();
    if text.starts_with("none.") {
        answer.metadata.response_code = ResponseCode::NXDomain;
        let root = Name::root();
        let soa = SOA::new(root.clone(), root.clone(), 1, 2, 3, 4, 60);
        answer.add_authority(Record::from_rdata(root, 900, RData::SOA(soa)));
        return answer;
    }
    if text.starts_with("big.") {
        let texts = (0..15).map(|number| format!("{number:0200}")).collect();
        answer.add_answer(Record::from_rdata(name, 60, RData::TXT(TXT::new(texts))));
        return answer;
    }
    if text.starts_with("lower.") {
        answer.queries[0].name = name.to_lowercase();
    }
    if query.query_type == RecordType::A {
        answer.add_answer(Record::from_rdata(name, 60, RData::A(A::new(192, 0, 2, 1))));
    }
    answer
}
