//! Carries faults out round the ordinary answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::answer::{Answer, Early};
use super::{Cut, Fault};
use crate::support::journal::Op;
use crate::support::net::call::{Call, RequestBody};
use crate::support::net::reply::{Payload, Reply};
use crate::support::net::wire::{Control, lock};
use crate::support::net::{Abort, Host, Service};
use crate::support::registry::store::Store;

pub async fn answer(
    host: &Arc<Host>,
    control: &Control,
    call: &Call,
    body: &mut RequestBody,
    faults: Vec<Fault>,
) -> Result<Reply, Abort> {
    let mut scripted = None;
    for fault in &faults {
        if let Some(reply) = before(host, control, call, body, fault).await? {
            scripted.get_or_insert(reply);
        }
    }
    let mut reply = match scripted {
        Some(reply) => reply,
        None => host.service.answer(host, call, body).await,
    };
    // What a fault left unread must not be taken for the next request.
    if body.limit.take().is_some() && body.discard().await.is_err() {
        return Err(Abort);
    }
    for fault in &faults {
        after(host, control, call, fault, &mut reply).await?;
    }
    Ok(reply)
}

/// Faults that act on the request; an answer from here replaces the ordinary one.
async fn before(
    host: &Arc<Host>,
    control: &Control,
    call: &Call,
    body: &mut RequestBody,
    fault: &Fault,
) -> Result<Option<Reply>, Abort> {
    match fault {
        Fault::Status(status) => {
            let answer = Answer::new(*status);
            return scripted(control, body, &answer).await.map(Some);
        }
        Fault::Answer(answer) => return scripted(control, body, answer).await.map(Some),
        Fault::IgnoreMount => {
            let call = Call { op: Op::UploadStart, ..call.clone() };
            return Ok(Some(host.service.answer(host, &call, body).await));
        }
        Fault::Redirect(redirect) => {
            body.discard().await.map_err(|_| Abort)?;
            return Ok(Some(redirect.reply(host, call)));
        }
        Fault::DelayRequest(time) => tokio::time::sleep(*time).await,
        Fault::StopReading => std::future::pending().await,
        Fault::ReadSlowly(pause) => body.pause = *pause,
        Fault::HangUp(how) => return Err(hang_up(control, *how)),
        Fault::ResetAfterReading(bytes) => {
            body.limit = Some(*bytes);
            let _ = body.discard().await;
            return Err(hang_up(control, Cut::Rst));
        }
        Fault::Down(time) => {
            host.down_for(*time);
            return Err(hang_up(control, Cut::Rst));
        }
        Fault::AcceptOnly(bytes) => body.limit = Some(*bytes),
        Fault::DropSession => with_store(host, |store| store.drop_session(&call.reference)),
        Fault::KeepLastPatchOnly => with_store(host, |store| store.empty_session(&call.reference)),
        Fault::Run(act) => act(call),
        _ => {}
    }
    Ok(None)
}

async fn scripted(control: &Control, body: &mut RequestBody, answer: &Answer) -> Result<Reply, Abort> {
    let reply = answer.reply();
    let Some(Early { read, linger, reset }) = answer.early else {
        body.discard().await.map_err(|_| Abort)?;
        return Ok(reply);
    };
    body.limit = Some(read);
    let _ = body.discard().await;
    body.limit = None;
    *lock(&control.linger) = Some(linger);
    control.reset.store(reset, Ordering::SeqCst);
    Ok(reply.with("Connection", "close"))
}

fn hang_up(control: &Control, how: Cut) -> Abort {
    if how == Cut::Rst {
        control.reset_on_close();
    }
    Abort
}

fn with_store(host: &Host, act: impl FnOnce(&Store)) {
    if let Service::Registry(service) = &host.service {
        act(&service.store);
    }
}

/// Faults that act on the answer.
async fn after(
    host: &Host,
    control: &Control,
    call: &Call,
    fault: &Fault,
    reply: &mut Reply,
) -> Result<(), Abort> {
    match fault {
        Fault::DelayHeaders(time) => tokio::time::sleep(*time).await,
        Fault::HoldHeaders(is_over) => {
            while !is_over() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        Fault::StallHeaders => std::future::pending().await,
        Fault::KeepAddress => with_store(host, |store| store.keep_address(&call.reference)),
        // What another fault has refused was not done.
        Fault::FailAfterwards(_) if reply.status >= 400 => {}
        Fault::FailAfterwards(status) => *reply = Answer::new(*status).reply(),
        Fault::ChangeStatus(status) => reply.status = *status,
        Fault::LoseAnswer(how) => return Err(hang_up(control, *how)),
        Fault::CloseAfterAnswer => control.close_after_answer(),
        Fault::Raw(bytes) => raw(control, reply, bytes.clone()),
        Fault::CloseDelimited { after } => close_delimited(control, reply, *after),
        Fault::ForgetBlob => {
            let digest = call.digest().unwrap_or_default();
            with_store(host, |store| store.unlink_blob(&call.repository, &digest));
        }
        Fault::MoveTag(to) => {
            with_store(host, |store| store.set_tag(&call.repository, &call.reference, to));
        }
        _ => change_reply(call, fault, reply),
    }
    Ok(())
}

fn change_reply(call: &Call, fault: &Fault, reply: &mut Reply) {
    match fault {
        Fault::SetHeader(name, value) => reply.set(name, value),
        Fault::RemoveHeader(name) => remove_header(call, name, reply),
        Fault::ClaimLength(length) => {
            reply.set("Content-Length", length);
            // Cut by us, since hyper would throw away what it has not sent yet.
            let real = reply.body.length();
            reply.plan.cut = (*length > real).then_some((real, Cut::Fin));
        }
        Fault::Location(form) => {
            if let Some(location) = reply.header("location") {
                let location = form.write(location);
                reply.set("Location", location);
            }
        }
        Fault::SwapBody { content_type, body } => {
            reply.set("Content-Type", content_type);
            reply.headers.remove("content-length");
            reply.body = Payload::Bytes(body.clone());
        }
        _ => change_plan(fault, reply),
    }
}

fn change_plan(fault: &Fault, reply: &mut Reply) {
    let plan = &mut reply.plan;
    match fault {
        Fault::DelayBody(time) => plan.delay = Some(*time),
        Fault::StallBody { after } => plan.stall = Some(*after),
        Fault::CutBody { after, how } => plan.cut = Some((*after, *how)),
        Fault::Trickle { bytes, every } => plan.trickle = Some((*bytes, *every)),
        Fault::FlipByte { at } => plan.flip = Some(*at),
        Fault::ExtraBytes(bytes) => {
            plan.extra = *bytes;
            reply.set("Content-Length", reply.body.length() + bytes);
        }
        Fault::Endless => {
            (plan.endless, plan.chunked) = (true, true);
            reply.headers.remove("content-length");
        }
        Fault::NoLength => {
            plan.chunked = true;
            reply.headers.remove("content-length");
        }
        _ => {}
    }
}

/// hyper adds a length to HEAD answers without one, so such an answer is written by hand.
fn remove_header(call: &Call, name: &'static str, reply: &mut Reply) {
    reply.headers.remove(name);
    if name.eq_ignore_ascii_case("content-length") && call.op != Op::Other {
        reply.plan.chunked = true;
    }
}

fn raw(control: &Control, reply: &mut Reply, bytes: Bytes) {
    control.answer_raw(bytes);
    // hyper writes this one, and the wire puts the raw bytes in its place.
    *reply = Reply::new(reply.status).with("Connection", "close");
}

fn close_delimited(control: &Control, reply: &mut Reply, after: Option<u64>) {
    let mut out = BytesMut::new();
    out.put_slice(format!("HTTP/1.1 {} OK\r\nConnection: close\r\n", reply.status).as_bytes());
    reply.headers.remove("content-length");
    for (name, value) in reply.headers.iter() {
        out.put_slice(name.as_str().as_bytes());
        out.put_slice(b": ");
        out.put_slice(value.as_bytes());
        out.put_slice(b"\r\n");
    }
    out.put_slice(b"\r\n");
    let head = out.len();
    let body = std::mem::replace(&mut reply.body, Payload::Bytes(Bytes::new()));
    body.into_chunks().for_each(|chunk| out.put_slice(&chunk));
    if let Some(after) = after {
        out.truncate(head + after as usize);
    }
    raw(control, reply, out.freeze());
}
