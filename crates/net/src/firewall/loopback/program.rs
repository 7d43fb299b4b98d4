//! What the hooks do, as instructions.
//!
//! ```text
//!   to ::1, port P?                     no ─▶ as it is
//!   by a socket of our namespace?       no ─▶ as it is
//!   that is not bound to ::1?           no ─▶ as it is (what comes back could not reach it)
//!   P in the map of ports?              no ─▶ as it is
//!   remember (socket, container's address and port) ─▶ P; go there
//! ```
//!
//! The way back looks up what was remembered, and says `::1` and P.

use tare_sys::bpf::Instruction;

// Operations: what is done, with a constant (`K`) or a register (`X`).
const LOAD_HALF: u8 = 0x69;
const LOAD_WORD: u8 = 0x61;
const LOAD_LONG: u8 = 0x79;
const PUT_WORD: u8 = 0x62; // a constant
const STORE_BYTE: u8 = 0x73;
const STORE_HALF: u8 = 0x6b;
const STORE_WORD: u8 = 0x63;
const STORE_LONG: u8 = 0x7b;
const MOVE_K: u8 = 0xb7;
const MOVE_X: u8 = 0xbf;
const MOVE_LONG: u8 = 0x18; // takes two instructions
const ADD_K: u8 = 0x07;
const OR_X: u8 = 0x4f;
const JUMP_EQUAL_K: u8 = 0x15;
const JUMP_NOT_EQUAL_K: u8 = 0x55;
const JUMP_EQUAL_WORD_K: u8 = 0x16;
const JUMP_NOT_EQUAL_WORD_K: u8 = 0x56;
const JUMP_NOT_EQUAL_X: u8 = 0x5d;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;

// Functions of the kernel.
const MAP_LOOKUP: i32 = 1;
const MAP_UPDATE: i32 = 2;
const SOCKET_COOKIE: i32 = 46;
const NETWORK_COOKIE: i32 = 122;

// `struct bpf_sock_addr`
const ADDRESS: i16 = 8;
const PORT: i16 = 24;
const PROTOCOL: i16 = 36;
const SOCKET: i16 = 64;
/// `struct bpf_sock`: the address that it is bound to.
const BOUND: i16 = 28;

// Registers: the answer of a call, its arguments, and those that calls leave alone.
const ANSWER: u8 = 0;
const FIRST: u8 = 1;
const SECOND: u8 = 2;
const THIRD: u8 = 3;
const FOURTH: u8 = 4;
const CONTEXT: u8 = 6;
const FOUND: u8 = 7;
const STACK: u8 = 10;

// On the stack: a key of each map, and a port.
const PORT_KEY: i16 = -8;
const ANSWER_KEY: i16 = -48;
const ANSWER_PORT: i16 = -16;

/// Words of `::1` as a register has them.
const LOOPBACK: [i32; 4] = [0, 0, 0, i32::from_ne_bytes([0, 0, 0, 1])];
/// Bits of a key that are looked at: all.
const KEY_BITS: i32 = 32;
/// A jump to the end, until it is known where that is.
const END: i16 = i16::MIN;
/// The register is loaded with a map, not with its number.
const MAP: u8 = 1;

/// Which maps and which namespace a program is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Of {
    pub(super) namespace: u64,
    /// Numbers of descriptors.
    pub(super) ports: i32,
    pub(super) answers: i32,
}

/// Before a socket connects, or sends.
pub(super) fn there(of: Of) -> Vec<Instruction> {
    let to_loopback = LOOPBACK.into_iter().enumerate().flat_map(|(at, word)| {
        [
            load(LOAD_WORD, ANSWER, CONTEXT, word_at(ADDRESS, at)),
            jump(JUMP_NOT_EQUAL_WORD_K, ANSWER, END, word),
        ]
    });
    let parts = [
        vec![take(CONTEXT, FIRST)],
        to_loopback.collect(),
        is_ours(of),
        not_bound_to_loopback(),
        vec![
            put(STACK, PORT_KEY, KEY_BITS),
            put(STACK, PORT_KEY + 4, 0),
            load(LOAD_WORD, ANSWER, CONTEXT, PROTOCOL),
            store(STORE_BYTE, STACK, PORT_KEY + 4, ANSWER),
            load(LOAD_WORD, ANSWER, CONTEXT, PORT),
            store(STORE_HALF, STACK, PORT_KEY + 6, ANSWER),
        ],
        look_up(of.ports, PORT_KEY),
        answer_key(FOUND, 0, LOAD_HALF, 16),
        vec![load(LOAD_WORD, ANSWER, CONTEXT, PORT), store(STORE_WORD, STACK, ANSWER_PORT, ANSWER)],
        argument_map(of.answers).to_vec(),
        vec![
            take(SECOND, STACK),
            Instruction::new(ADD_K, SECOND, 0, 0, ANSWER_KEY.into()),
            take(THIRD, STACK),
            Instruction::new(ADD_K, THIRD, 0, 0, ANSWER_PORT.into()),
            Instruction::new(MOVE_K, FOURTH, 0, 0, 0),
            call(MAP_UPDATE),
        ],
        copy_words(CONTEXT, ADDRESS, FOUND, 0),
        vec![load(LOAD_HALF, ANSWER, FOUND, 16), store(STORE_WORD, CONTEXT, PORT, ANSWER)],
    ];
    ended(parts.concat())
}

/// After a socket has received, or when it is asked for its peer.
pub(super) fn back(of: Of) -> Vec<Instruction> {
    let to_loopback = LOOPBACK.into_iter().enumerate().flat_map(|(at, word)| {
        [
            Instruction::new(MOVE_K, ANSWER, 0, 0, word),
            store(STORE_WORD, CONTEXT, word_at(ADDRESS, at), ANSWER),
        ]
    });
    let parts = [
        vec![take(CONTEXT, FIRST)],
        is_ours(of),
        answer_key(CONTEXT, ADDRESS, LOAD_WORD, PORT),
        look_up(of.answers, ANSWER_KEY),
        vec![load(LOAD_WORD, ANSWER, FOUND, 0), store(STORE_WORD, CONTEXT, PORT, ANSWER)],
        to_loopback.collect(),
    ];
    ended(parts.concat())
}

/// The socket is of our network namespace.
fn is_ours(of: Of) -> Vec<Instruction> {
    let [low, high] = [of.namespace as u32, (of.namespace >> 32) as u32].map(u32::cast_signed);
    vec![
        take(FIRST, CONTEXT),
        call(NETWORK_COOKIE),
        Instruction::new(MOVE_LONG, FIRST, 0, 0, low),
        Instruction::new(0, 0, 0, 0, high),
        Instruction::new(JUMP_NOT_EQUAL_X, ANSWER, FIRST, END, 0),
    ]
}

fn not_bound_to_loopback() -> Vec<Instruction> {
    let mut code = vec![load(LOAD_LONG, FOUND, CONTEXT, SOCKET), load(LOAD_WORD, FIRST, FOUND, BOUND)];
    for at in [1, 2] {
        code.push(load(LOAD_WORD, ANSWER, FOUND, word_at(BOUND, at)));
        code.push(Instruction::new(OR_X, FIRST, ANSWER, 0, 0));
    }
    // Not over the end of this test.
    code.push(jump(JUMP_NOT_EQUAL_K, FIRST, 2, 0));
    code.push(load(LOAD_WORD, ANSWER, FOUND, word_at(BOUND, 3)));
    code.push(jump(JUMP_EQUAL_WORD_K, ANSWER, END, LOOPBACK[3]));
    code
}

/// Key of what is remembered: the socket, an address at `from` and a port at `port` of it.
fn answer_key(from: u8, address: i16, load_port: u8, port: i16) -> Vec<Instruction> {
    let mut code =
        vec![take(FIRST, CONTEXT), call(SOCKET_COOKIE), store(STORE_LONG, STACK, ANSWER_KEY, ANSWER)];
    code.extend(copy_words(STACK, ANSWER_KEY + 8, from, address));
    code.push(load(load_port, ANSWER, from, port));
    code.push(store(STORE_WORD, STACK, ANSWER_KEY + 24, ANSWER));
    code
}

/// What the map has for the key on the stack is at [`FOUND`].
fn look_up(map: i32, key: i16) -> Vec<Instruction> {
    let mut code = argument_map(map).to_vec();
    code.extend([
        take(SECOND, STACK),
        Instruction::new(ADD_K, SECOND, 0, 0, key.into()),
        call(MAP_LOOKUP),
        jump(JUMP_EQUAL_K, ANSWER, END, 0),
        take(FOUND, ANSWER),
    ]);
    code
}

/// The end, and jumps there.
fn ended(mut code: Vec<Instruction>) -> Vec<Instruction> {
    let end = code.len();
    for (at, instruction) in code.iter_mut().enumerate().filter(|(_, one)| one.offset == END) {
        instruction.offset = (end - at - 1) as i16; // a program has some 80
    }
    code.extend([Instruction::new(MOVE_K, ANSWER, 0, 0, 1), Instruction::new(EXIT, 0, 0, 0, 0)]);
    code
}

fn copy_words(to: u8, to_offset: i16, from: u8, from_offset: i16) -> Vec<Instruction> {
    let word = |at| {
        [
            load(LOAD_WORD, ANSWER, from, word_at(from_offset, at)),
            store(STORE_WORD, to, word_at(to_offset, at), ANSWER),
        ]
    };
    (0..4).flat_map(word).collect()
}

fn word_at(offset: i16, number: usize) -> i16 {
    offset + 4 * number as i16
}

fn argument_map(map: i32) -> [Instruction; 2] {
    [Instruction::new(MOVE_LONG, FIRST, MAP, 0, map), Instruction::new(0, 0, 0, 0, 0)]
}

fn load(code: u8, to: u8, from: u8, offset: i16) -> Instruction {
    Instruction::new(code, to, from, offset, 0)
}

fn store(code: u8, to: u8, offset: i16, from: u8) -> Instruction {
    Instruction::new(code, to, from, offset, 0)
}

fn put(to: u8, offset: i16, value: i32) -> Instruction {
    Instruction::new(PUT_WORD, to, 0, offset, value)
}

fn take(to: u8, from: u8) -> Instruction {
    Instruction::new(MOVE_X, to, from, 0, 0)
}

fn jump(code: u8, register: u8, distance: i16, value: i32) -> Instruction {
    Instruction::new(code, register, 0, distance, value)
}

fn call(function: i32) -> Instruction {
    Instruction::new(CALL, 0, 0, 0, function)
}
