//! The same by TCP.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::upstream::Fault;
use super::*;

async fn connect(place: &Place) -> TcpStream {
    TcpStream::connect(place.tcp.local_addr().unwrap()).await.unwrap()
}

fn frame(name: &str, kind: RecordType) -> Vec<u8> {
    let bytes = question(name, kind).to_vec().unwrap();
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], &bytes].concat()
}

async fn receive(stream: &mut TcpStream) -> Option<Message> {
    let length = timeout(Duration::from_secs(2), stream.read_u16()).await.ok()?.ok()?;
    let mut bytes = vec![0; length.into()];
    stream.read_exact(&mut bytes).await.unwrap();
    Some(Message::from_vec(&bytes).unwrap())
}

#[tokio::test]
async fn answers_come_whole_also_to_questions_in_pieces_and_in_a_row() {
    let fake = Fake::new().await;
    let place = Place::new(&on(&[1], &[fake.address]));
    let mut stream = connect(&place).await;
    for byte in frame("web.", RecordType::A) {
        stream.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(told(&receive(&mut stream).await.unwrap()), ["10.1.0.2"]);
    let row = [frame("big.example.", RecordType::TXT), frame("web.", RecordType::AAAA)].concat();
    stream.write_all(&row).await.unwrap();
    stream.shutdown().await.unwrap();
    // What is known comes first; what is fetched comes although the client has ended its direction.
    assert_eq!(told(&receive(&mut stream).await.unwrap()), ["fd01::2"]);
    let big = receive(&mut stream).await.unwrap();
    assert!(!big.metadata.truncation && big.answers.len() == 1);
    assert!(receive(&mut stream).await.is_none());
}

#[tokio::test]
async fn known_names_do_not_wait_behind_a_dead_upstream() {
    let dead = Fake::with(Fault::Dead).await;
    let place = Place::new(&on(&[1], &[dead.address]));
    let mut stream = connect(&place).await;
    let row = [frame("www.example.", RecordType::A), frame("web.", RecordType::A)].concat();
    stream.write_all(&row).await.unwrap();
    assert_eq!(told(&receive(&mut stream).await.unwrap()), ["10.1.0.2"]);
    assert_eq!(code(&receive(&mut stream).await.unwrap()), ResponseCode::ServFail);
}

#[tokio::test]
async fn who_is_slow_lies_or_is_too_many_harms_nobody_else() {
    let place = Place::with(&on(&[1], &[]), Limits { connections_each: 4, ..limits() });
    let mut lying = connect(&place).await;
    lying.write_all(&[0xff, 0xff, 0]).await.unwrap();
    assert!(receive(&mut lying).await.is_none());
    let mut slow = Vec::new();
    for _ in 0..8 {
        let mut stream = connect(&place).await;
        stream.write_all(&[0, 30, 1]).await.unwrap();
        slow.push(stream);
    }
    // By UDP as ever, and by TCP as soon as the first ones are cut off.
    assert_eq!(told(&place.ask("web.", RecordType::A).await), ["10.1.0.2"]);
    let mut stream = connect(&place).await;
    stream.write_all(&frame("web.", RecordType::A)).await.unwrap();
    assert_eq!(told(&receive(&mut stream).await.unwrap()), ["10.1.0.2"]);
    // A byte now and then is no question either.
    let start = std::time::Instant::now();
    let mut dripping = connect(&place).await;
    while dripping.write_all(&[0]).await.is_ok() && start.elapsed() < limits().idle * 8 {
        tokio::time::sleep(limits().idle / 4).await;
    }
    assert!(start.elapsed() < limits().idle * 5, "{:?}", start.elapsed());
}
