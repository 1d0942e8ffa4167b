//! Small things that several lessons need.

use mambascope_core::job::JobError;

/// An error of the engine as one of the job.
pub fn refused(error: impl ToString) -> JobError {
    JobError::Study(error.to_string())
}

/// ‖found − wanted‖ / ‖wanted‖; 1 where there is nothing wanted.
pub fn relative_error<'a>(
    found: impl IntoIterator<Item = &'a f64>,
    wanted: impl IntoIterator<Item = &'a f64>,
) -> f64 {
    let (mut rest, mut size) = (0.0, 0.0);
    for (found, wanted) in found.into_iter().zip(wanted) {
        rest += (found - wanted).powi(2);
        size += wanted * wanted;
    }
    if size == 0.0 {
        return 1.0;
    }
    (rest / size).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_a_share_of_what_was_wanted() {
        assert_eq!(relative_error(&[3.0, 0.0], &[3.0, 4.0]), 0.8);
        assert_eq!(relative_error(&[1.0], &[0.0]), 1.0);
        assert!(relative_error(&[f64::NAN], &[1.0]).is_nan());
    }
}
