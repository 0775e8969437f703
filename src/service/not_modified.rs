//! Freshens stored responses: a 304 or a response to HEAD updates the header fields of a stored
//! response (RFC 9111 sections 4.3.4 and 4.3.5).

use crate::{
    entry::response::StoredResponse,
    fill::{
        begin::FillReply,
        candidate::Candidate,
        write::{StoreWork, Write},
    },
    outcome::Stored,
    response::{
        cached::{ClientTerms, body_for},
        conditional::apply_request_conditions,
        representation::{StreamedCoding, choose},
        streamed_coding::CodingDecision,
    },
    semantics::{
        connection::ConnectionFields, dates::set_date, special_fields::SpecialFields,
        validation::updated_fields,
    },
};
use actix_web::{
    HttpResponse,
    body::MessageBody,
    dev::ServiceResponse,
    http::header::{AGE, DATE},
};

/// Updates a stored response with the header fields of a 304 that validates it, and answers the
/// request with the result.
pub(super) fn freshen_by_not_modified<B: MessageBody>(
    mut candidate: Box<Candidate>,
    stored: &StoredResponse,
    not_modified: ServiceResponse<B>,
) -> FillReply<B> {
    candidate.replaced_audience = Some(stored.audience);
    let now = candidate.shared.now();
    let mut fields = updated_fields(stored, not_modified.headers());
    let plan = candidate.judge_update(&not_modified, stored, &fields, now);
    candidate.learn_variance(plan.as_deref().map_err(|reason| *reason), &fields);
    let (client, coding_support) = (candidate.request.to_map(), candidate.coding_support);
    let terms = ClientTerms::of(candidate.policy());
    let (draft, kept) = match plan {
        Ok(plan) => {
            let draft = candidate.prepare(&plan, stored.status, &mut fields, &[], now);
            (Some(draft), Stored::Yes)
        }
        Err(reason) => {
            log::trace!("not freshened: {reason:?}");
            candidate.emit_known_tags(stored, not_modified.headers(), &mut fields);
            (None, Stored::No(reason))
        }
    };
    if !fields.contains_key(DATE) {
        set_date(&mut fields, DATE, now.system_time());
    }
    let compression = candidate.policy().compression();
    let streamed_coding = StreamedCoding::by(not_modified.request().version());
    let chosen = choose(&client, SpecialFields::ALL, stored, compression, streamed_coding);
    let representation = chosen.representation;
    let body = candidate.hold_body(representation.body(stored));
    let write = draft.map(|draft| Write::new(candidate, draft).with_body_of(stored));
    let work = write.map(StoreWork::Write);
    let (request, _) = not_modified.into_parts();
    let mut response = HttpResponse::with_body(stored.status, body_for(stored.status, &body));
    let connection = ConnectionFields::of(&fields);
    for (name, value) in &fields {
        // `Age` is never stored, so an `Age` here comes from the 304.
        if connection.may_be_stored(name) || *name == AGE {
            response.headers_mut().append(name.clone(), value.clone());
        }
    }
    representation.write(stored, response.headers_mut());
    terms.compression.weaken_tag(coding_support, response.headers_mut());
    let forms = terms.forms(stored, &representation);
    let response = apply_request_conditions(request.method(), &client, forms, response, &body);
    let response = representation.code_while_sending(request.method(), response);
    let coding = CodingDecision::Made;
    FillReply { response: ServiceResponse::new(request, response), stored: kept, work, coding }
}

/// Updates a stored response with the header fields of a 200 response to HEAD. Adds to the response
/// to HEAD the stored fields that it lacks. Returns `None` if the updated response may not be
/// stored.
pub(super) fn freshen_by_head<B>(
    mut candidate: Box<Candidate>,
    stored: &StoredResponse,
    response: &mut ServiceResponse<B>,
) -> Option<Write> {
    candidate.replaced_audience = Some(stored.audience);
    let now = candidate.shared.now();
    let mut fields = updated_fields(stored, response.headers());
    let plan = candidate.judge_update(response, stored, &fields, now);
    candidate.learn_variance(plan.as_deref().map_err(|reason| *reason), &fields);
    let plan = match plan {
        Ok(plan) => plan,
        Err(reason) => {
            log::trace!("not freshened by HEAD: {reason:?}");
            return None;
        }
    };
    let draft = candidate.prepare(&plan, stored.status, &mut fields, &[], now);
    let own = response.headers_mut();
    // RFC 9110 section 9.3.2: a response to HEAD may lack fields whose values are known only when
    // the content is generated.
    let absent: Vec<_> = fields.iter().filter(|(name, _)| !own.contains_key(*name)).collect();
    for (name, value) in absent {
        own.append(name.clone(), value.clone());
    }
    for (name, value) in plan.emitted_tags {
        own.insert(name, value);
    }
    Some(Write::new(candidate, draft).with_body_of(stored))
}

/// Removes all stored responses of the candidate's cache key. Invalidates the fills of the key
/// (handler calls in progress), so that their responses are not stored.
pub(super) async fn remove_entry(candidate: Box<Candidate>) {
    let shared = candidate.shared.clone();
    shared.store.coordinator().invalidate_fills(&candidate.key);
    if let Err(error) = shared.within_store_timeout(shared.store.remove(&candidate.key)).await {
        shared.warn_about_store(&error);
    }
}
