//! The target `exchange`: two requesters with different credentials send requests through a cache
//! with a policy that is drawn at random, to a handler whose responses are drawn at random.
//!
//! `drawn` reads the settings, requests and responses from the input. `rules` states in another way
//! than the crate which responses a requester may get.

mod drawn;
mod messages;
mod rules;

use std::{cell::RefCell, rc::Rc};

use actix_web::{
    App, HttpRequest, HttpResponse,
    body::to_bytes,
    dev::{Service, ServiceResponse},
    error::PayloadError,
    http::{
        Method, StatusCode,
        header::{HeaderMap, IF_NONE_MATCH},
    },
    rt::{System, SystemRunner},
    test, web,
};
use bytes::Bytes;
use futures_util::{future::join_all, stream};

use self::{
    drawn::{Answer, Requester, Setup, Step},
    messages::{Made, Reply},
    rules::check,
};
use super::input::Input;
use crate::{Cache, CacheBody, ManualClock, MemoryStore};

/// The most requests of one run.
const MOST_STEPS: usize = 12;

thread_local! {
    /// A system of actix takes long to start, so all runs of a thread share one.
    static SYSTEM: SystemRunner = System::new();
}

/// Runs the target.
///
/// # Panics
///
/// Panics if a requester gets a response that the cache must not share, if a stored response
/// differs from the response of the handler, or if the cache panics.
pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let setup = Setup::read(&mut input);
    let mut steps = Vec::new();
    while !input.is_empty() && steps.len() < MOST_STEPS {
        steps.push(Step::read(&mut input));
    }
    SYSTEM.with(|system| system.block_on(exchange(&setup, &steps)));
}

/// The handler: it makes the drawn responses, one after the other.
#[derive(Clone)]
struct Handler {
    answers: Rc<[Answer]>,
    made: Rc<RefCell<Vec<Made>>>,
    clock: ManualClock,
    yields: usize,
}

async fn exchange(setup: &Setup, steps: &[Step]) {
    let clock = ManualClock::at(START);
    let cache = Cache::builder(MemoryStore::new(1 << 20)).clock(clock.clock());
    let cache = cache.policy(setup.policy.clone()).rules(setup.rules.clone()).build();
    // Some of the drawn settings contradict each other.
    let Ok(cache) = cache else { return };
    let handler = Handler {
        answers: setup.answers.clone(),
        made: Rc::default(),
        clock: clock.clone(),
        yields: setup.yields,
    };
    let made = Rc::clone(&handler.made);
    let service = web::to(move |request: HttpRequest| {
        let handler = handler.clone();
        async move { handler.answer(&request).await }
    });
    let app = test::init_service(App::new().wrap(cache).default_service(service)).await;
    for step in steps {
        clock.advance(step.pause);
        let before = made.borrow().len();
        let [first, second] = &setup.requesters;
        let requesters = match step.requester {
            0 => vec![first],
            1 => vec![second],
            _ => vec![first, second],
        };
        let replies = requesters.iter().map(|requester| send(&app, step, requester));
        let replies = join_all(replies).await;
        let made = made.borrow().clone();
        for (requester, reply) in requesters.into_iter().zip(&replies) {
            check(setup, step, requester, reply, &made, before, seconds(&clock));
        }
        // Writes and refreshes in the background end before the next request.
        for _ in 0..2 * setup.yields + 4 {
            tokio::task::yield_now().await;
        }
    }
}

/// The time of the first request, in seconds since 1970.
const START: u64 = 1_700_000_000;

fn seconds(clock: &ManualClock) -> u64 {
    clock.now().wall().as_secs() - START
}

async fn send<S, B>(app: &S, step: &Step, requester: &Requester) -> Reply
where
    S: Service<
            actix_http::Request,
            Response = ServiceResponse<CacheBody<B>>,
            Error = actix_web::Error,
        >,
    B: actix_web::body::MessageBody,
{
    let mut request = test::TestRequest::with_uri(step.uri).method(step.method.clone());
    for (name, value) in step.fields(requester) {
        request = request.append_header((name, value));
    }
    let response = test::call_service(app, request.to_request()).await;
    let (status, fields) = (response.status(), response.headers().clone());
    let body = to_bytes(response.into_body()).await.map_err(drop);
    Reply { status, fields, body }
}

impl Handler {
    async fn answer(&self, request: &HttpRequest) -> HttpResponse {
        for _ in 0..self.yields {
            tokio::task::yield_now().await;
        }
        let mut made = self.made.borrow_mut();
        let serial = made.len();
        let answer = self.answers[serial % self.answers.len()].clone();
        let validated = validated(request, &made).filter(|_| answer.validates);
        let entry = match validated {
            Some(validated) => {
                let old = &made[validated];
                let status = StatusCode::NOT_MODIFIED;
                Made { status, body: Bytes::new(), validates: Some(validated), ..old.clone() }
            }
            None => Made {
                request: HeaderMap::new(),
                uri: String::new(),
                status: answer.status,
                fields: answer.fields(serial),
                body: answer.body(serial),
                answer,
                at: 0,
                validates: None,
                is_head: false,
            },
        };
        let entry = Made {
            request: request.headers().clone(),
            uri: request.uri().to_string(),
            at: seconds(&self.clock),
            ..entry
        };
        if request.method() == Method::HEAD {
            // The fields of this response say nothing about the stored response.
            made.push(Made { is_head: true, ..entry });
            return HttpResponse::Ok().finish();
        }
        let mut response = HttpResponse::build(entry.status);
        for (name, value) in &entry.fields {
            response.append_header((name.clone(), value.clone()));
        }
        let body = entry.body.clone();
        let response = match entry.answer.is_streamed {
            true => {
                let half = body.len() / 2;
                let chunks = [body.slice(..half), body.slice(half..)];
                response.streaming(stream::iter(chunks.map(Ok::<_, PayloadError>)))
            }
            false => response.body(body),
        };
        // actix has added fields such as `Content-Type`.
        made.push(Made { fields: response.headers().clone(), ..entry });
        response
    }
}

/// Returns the number of the response that the conditions of a request name.
fn validated(request: &HttpRequest, made: &[Made]) -> Option<usize> {
    let condition = request.headers().get(IF_NONE_MATCH)?.to_str().ok()?;
    let serial: usize = condition.trim_matches(['W', '/', '"']).parse().ok()?;
    made.get(serial).filter(|made| made.status == StatusCode::OK && !made.is_head).map(|_| serial)
}
