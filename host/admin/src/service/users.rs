//! User requests of the admin service: the users of the store, as changed by `waxwing user`.

use waxwing_accounts::{StoredPassword, UserName};
use waxwing_control::{ControlError, ControlErrorKind, ControlResponse, PasswordRecordText, USER_PAGE_MAX, UserStatus};
use waxwing_pipeline::{UserChange, UserStore, UserStoreError};

use crate::handler::control_error;

/// Returns a page of users, in the order of names, after the name `after`.
pub(super) fn list(users: &dyn UserStore, after: Option<&str>) -> ControlResponse {
    let mut page = users.list_users(after, USER_PAGE_MAX + 1);
    let more = page.len() > USER_PAGE_MAX;
    page.truncate(USER_PAGE_MAX);
    let next = page.last().filter(|_| more).map(|(name, _)| name.clone());
    ControlResponse::Users { users: page.into_iter().map(|(name, records)| user_status(name, &records)).collect(), next }
}

/// Returns the user of this name, or an empty list.
pub(super) fn show(users: &dyn UserStore, name: &str) -> Result<ControlResponse, ControlError> {
    let name = normalized_name(name)?;
    let records = users.password_records(&name);
    let found = (!records.is_empty()).then(|| user_status(name, &records));
    Ok(ControlResponse::Users { users: found.into_iter().collect(), next: None })
}

pub(super) async fn add(
    users: &dyn UserStore,
    name: &str,
    records: &[PasswordRecordText],
) -> Result<ControlResponse, ControlError> {
    apply_change(users, name, UserChange::Add(parse_records(records)?)).await
}

pub(super) async fn set_password(
    users: &dyn UserStore,
    name: &str,
    records: &[PasswordRecordText],
) -> Result<ControlResponse, ControlError> {
    apply_change(users, name, UserChange::Replace(parse_records(records)?)).await
}

pub(super) async fn delete(users: &dyn UserStore, name: &str) -> Result<ControlResponse, ControlError> {
    apply_change(users, name, UserChange::Delete).await
}

async fn apply_change(users: &dyn UserStore, name: &str, change: UserChange) -> Result<ControlResponse, ControlError> {
    let key = normalized_name(name)?;
    match users.change(&key, change).await {
        Ok(()) => {
            tracing::info!(user = key, "user changed");
            Ok(ControlResponse::UserChanged)
        }
        Err(UserStoreError::Exists) => {
            Err(control_error(ControlErrorKind::Exists, format!("there is a user \"{name}\" in store: already")))
        }
        Err(UserStoreError::Unknown) => {
            Err(control_error(ControlErrorKind::NotFound, format!("there is no user \"{name}\" in store:")))
        }
        Err(error @ (UserStoreError::Changed | UserStoreError::Full(_) | UserStoreError::Unavailable(_))) => {
            Err(control_error(ControlErrorKind::Failed, error.to_string()))
        }
    }
}

fn normalized_name(name: &str) -> Result<String, ControlError> {
    UserName::parse(name).map(|name| name.key()).map_err(|error| control_error(ControlErrorKind::BadRequest, error.to_string()))
}

/// Parses the records again on the server side: only password hashes are stored, never plain text.
fn parse_records(records: &[PasswordRecordText]) -> Result<Vec<String>, ControlError> {
    let text = |record: &PasswordRecordText| StoredPassword::parse(&record.0, false).map(|record| record.to_text());
    let texts = records.iter().map(text).collect::<Result<_, _>>();
    texts.map_err(|error| control_error(ControlErrorKind::BadRequest, error.to_string()))
}

fn user_status(name: String, records: &[String]) -> UserStatus {
    let scheme = |text: &String| match StoredPassword::parse(text, false) {
        Ok(record) => record.scheme().to_owned(),
        Err(error) => format!("({error})"),
    };
    UserStatus { name, schemes: records.iter().map(scheme).collect() }
}
