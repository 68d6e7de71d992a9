//! User requests of the admin service: the users of the store, as changed by `waxwing user`.

use waxwing_accounts::{Record, UserName};
use waxwing_control::{PasswordRecord, Problem, ProblemKind, Response, USER_PAGE_MAX, UserStatus};
use waxwing_pipeline::{UserChange, UserStore, UserStoreError};

use super::problem;

/// Returns a page of users, in the order of names, after the name `after`.
pub(super) fn list(users: &dyn UserStore, after: Option<&str>) -> Response {
    let mut page = users.page(after, USER_PAGE_MAX + 1);
    let more = page.len() > USER_PAGE_MAX;
    page.truncate(USER_PAGE_MAX);
    let next = page.last().filter(|_| more).map(|(name, _)| name.clone());
    Response::Users { users: page.into_iter().map(|(name, records)| status(name, &records)).collect(), next }
}

/// Returns the user of this name, or an empty list.
pub(super) fn show(users: &dyn UserStore, name: &str) -> Result<Response, Problem> {
    let name = key(name)?;
    let records = users.find(&name);
    let found = (!records.is_empty()).then(|| status(name, &records));
    Ok(Response::Users { users: found.into_iter().collect(), next: None })
}

pub(super) async fn add(users: &dyn UserStore, name: &str, records: &[PasswordRecord]) -> Result<Response, Problem> {
    change(users, name, UserChange::Add(texts(records)?)).await
}

pub(super) async fn replace(users: &dyn UserStore, name: &str, records: &[PasswordRecord]) -> Result<Response, Problem> {
    change(users, name, UserChange::Replace(texts(records)?)).await
}

pub(super) async fn delete(users: &dyn UserStore, name: &str) -> Result<Response, Problem> {
    change(users, name, UserChange::Delete).await
}

async fn change(users: &dyn UserStore, name: &str, change: UserChange) -> Result<Response, Problem> {
    let key = key(name)?;
    match users.change(&key, change).await {
        Ok(()) => {
            tracing::info!(user = key, "user changed");
            Ok(Response::UserChanged)
        }
        Err(UserStoreError::Exists) => Err(problem(ProblemKind::Exists, format!("there is a user \"{name}\" in store: already"))),
        Err(UserStoreError::Unknown) => Err(problem(ProblemKind::NotFound, format!("there is no user \"{name}\" in store:"))),
        Err(error @ (UserStoreError::Changed | UserStoreError::Full(_) | UserStoreError::Unavailable(_))) => {
            Err(problem(ProblemKind::Failed, error.to_string()))
        }
    }
}

fn key(name: &str) -> Result<String, Problem> {
    UserName::parse(name).map(|name| name.key()).map_err(|error| problem(ProblemKind::BadRequest, error.to_string()))
}

/// Parses the records again on the server side: only password hashes are stored, never plain text.
fn texts(records: &[PasswordRecord]) -> Result<Vec<String>, Problem> {
    let text = |record: &PasswordRecord| Record::parse(&record.0, false).map(|record| record.to_text());
    let texts = records.iter().map(text).collect::<Result<_, _>>();
    texts.map_err(|error| problem(ProblemKind::BadRequest, error.to_string()))
}

fn status(name: String, records: &[String]) -> UserStatus {
    let scheme = |text: &String| match Record::parse(text, false) {
        Ok(record) => record.scheme().to_owned(),
        Err(error) => format!("({error})"),
    };
    UserStatus { name, schemes: records.iter().map(scheme).collect() }
}
