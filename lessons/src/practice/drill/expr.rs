//! A language of formulas for the code drills: numbers, names, `+ - * /`, parentheses, `exp` and `ln`. It can do nothing but compute.

use thiserror::Error;

/// The longest formula, in characters.
pub const MAX_LENGTH: usize = 400;
/// How deep its parentheses may go.
pub const MAX_DEPTH: usize = 32;

/// Why a formula cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ExprError {
    /// More than [`MAX_LENGTH`].
    #[error("the formula has {found} characters, wanted at most {MAX_LENGTH}")]
    TooLong {
        /// How many there are.
        found: usize,
    },
    /// More than [`MAX_DEPTH`].
    #[error("at character {at}: more than {MAX_DEPTH} parentheses and signs within each other")]
    TooDeep {
        /// Which character, from 1.
        at: usize,
    },
    /// Something else was to stand there.
    #[error("at character {at}: wanted {wanted}, found {found}")]
    Unexpected {
        /// Which character, from 1.
        at: usize,
        /// What could stand there.
        wanted: String,
        /// What stands there.
        found: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Function {
    Exp,
    Ln,
}

/// A step of a formula in postfix order: nothing to recurse into when it is computed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Number(f64),
    Variable(usize),
    Add,
    Subtract,
    Multiply,
    Divide,
    Negate,
    Call(Function),
}

/// A formula that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr(Vec<Step>);

impl Expr {
    /// Reads a formula of these variables. `Δ`, `·`, `×` and `−` stand for `delta`, `*`, `*` and `-`.
    ///
    /// # Errors
    /// With the place, and what was wanted there.
    pub fn parse(text: &str, variables: &[&str]) -> Result<Self, ExprError> {
        let found = text.chars().count();
        if found > MAX_LENGTH {
            return Err(ExprError::TooLong { found });
        }
        let mut reader = Reader {
            chars: text.chars().collect(),
            at: 0,
            depth: 0,
            variables,
            steps: Vec::new(),
        };
        reader.sum()?;
        match reader.peek() {
            None => Ok(Self(reader.steps)),
            Some(_) => Err(reader.unexpected("an operator or the end")),
        }
    }

    /// Its value where variable `i` has value `i`; NaN where a value is missing.
    pub fn value(&self, values: &[f64]) -> f64 {
        let mut stack: Vec<f64> = Vec::new();
        for step in &self.0 {
            let mut pop = || stack.pop().unwrap_or(f64::NAN);
            let value = match *step {
                Step::Number(number) => number,
                Step::Variable(index) => values.get(index).copied().unwrap_or(f64::NAN),
                Step::Negate => -pop(),
                Step::Call(Function::Exp) => pop().exp(),
                Step::Call(Function::Ln) => pop().ln(),
                Step::Add => pop() + pop(),
                Step::Multiply => pop() * pop(),
                Step::Subtract => -pop() + pop(),
                Step::Divide => {
                    let divisor = pop();
                    pop() / divisor
                }
            };
            stack.push(value);
        }
        stack.pop().unwrap_or(f64::NAN)
    }
}

struct Reader<'a> {
    chars: Vec<char>,
    at: usize,
    depth: usize,
    variables: &'a [&'a str],
    steps: Vec<Step>,
}

impl Reader<'_> {
    /// The next character that is not blank.
    fn peek(&mut self) -> Option<char> {
        while self.chars.get(self.at).is_some_and(|c| c.is_whitespace()) {
            self.at += 1;
        }
        self.chars.get(self.at).map(|&c| match c {
            '·' | '×' => '*',
            '−' => '-',
            c => c,
        })
    }

    fn unexpected(&self, wanted: impl Into<String>) -> ExprError {
        let found = self.chars.get(self.at);
        ExprError::Unexpected {
            at: self.at + 1,
            wanted: wanted.into(),
            found: found.map_or_else(|| "the end".to_owned(), |c| format!("{c:?}")),
        }
    }

    fn enter(&mut self) -> Result<(), ExprError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(ExprError::TooDeep { at: self.at + 1 });
        }
        Ok(())
    }

    fn sum(&mut self) -> Result<(), ExprError> {
        self.product()?;
        while let Some(sign @ ('+' | '-')) = self.peek() {
            self.at += 1;
            self.product()?;
            self.steps.push(if sign == '+' {
                Step::Add
            } else {
                Step::Subtract
            });
        }
        Ok(())
    }

    fn product(&mut self) -> Result<(), ExprError> {
        self.factor()?;
        while let Some(sign @ ('*' | '/')) = self.peek() {
            self.at += 1;
            self.factor()?;
            self.steps.push(if sign == '*' {
                Step::Multiply
            } else {
                Step::Divide
            });
        }
        Ok(())
    }

    fn factor(&mut self) -> Result<(), ExprError> {
        match self.peek() {
            Some('-') => {
                self.at += 1;
                self.enter()?;
                self.factor()?;
                self.depth -= 1;
                self.steps.push(Step::Negate);
                Ok(())
            }
            Some('(') => self.group(),
            Some(c) if c.is_ascii_digit() || c == '.' => self.number(),
            Some(c) if c.is_alphabetic() => self.name(),
            _ => Err(self.unexpected("a number, a name or an opening parenthesis")),
        }
    }

    fn group(&mut self) -> Result<(), ExprError> {
        if self.peek() != Some('(') {
            return Err(self.unexpected("an opening parenthesis"));
        }
        self.at += 1;
        self.enter()?;
        self.sum()?;
        if self.peek() != Some(')') {
            return Err(self.unexpected("an operator or a closing parenthesis"));
        }
        self.at += 1;
        self.depth -= 1;
        Ok(())
    }

    /// Digits, a point, an exponent.
    fn number(&mut self) -> Result<(), ExprError> {
        let start = self.at;
        let is_digit = |c: Option<&char>| c.is_some_and(char::is_ascii_digit);
        while self
            .chars
            .get(self.at)
            .is_some_and(|c| c.is_ascii_digit() || *c == '.')
        {
            self.at += 1;
        }
        let signed = matches!(self.chars.get(self.at + 1), Some('+' | '-'));
        let has_exponent = matches!(self.chars.get(self.at), Some('e' | 'E'))
            && is_digit(self.chars.get(self.at + 1 + usize::from(signed)));
        if has_exponent {
            self.at += 1 + usize::from(signed);
            while is_digit(self.chars.get(self.at)) {
                self.at += 1;
            }
        }
        let text: String = self.chars[start..self.at].iter().collect();
        let number = text.parse().map_err(|_| ExprError::Unexpected {
            at: start + 1,
            wanted: "a number".into(),
            found: format!("{text:?}"),
        })?;
        self.steps.push(Step::Number(number));
        Ok(())
    }

    fn name(&mut self) -> Result<(), ExprError> {
        let start = self.at;
        while self
            .chars
            .get(self.at)
            .is_some_and(|c| c.is_alphanumeric() || *c == '_')
        {
            self.at += 1;
        }
        let name: String = self.chars[start..self.at].iter().collect();
        let name = name.replace('Δ', "delta");
        let function = match name.as_str() {
            "exp" => Some(Function::Exp),
            "ln" | "log" => Some(Function::Ln),
            _ => None,
        };
        if let Some(function) = function {
            self.group()?;
            self.steps.push(Step::Call(function));
            return Ok(());
        }
        let index = self.variables.iter().position(|variable| *variable == name);
        let index = index.ok_or_else(|| ExprError::Unexpected {
            at: start + 1,
            wanted: match self.variables {
                [] => "a number, exp or ln".into(),
                names => format!("one of {}, exp, ln", names.join(", ")),
            },
            found: format!("{name:?}"),
        })?;
        self.steps.push(Step::Variable(index));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> f64 {
        Expr::parse(text, &["a", "delta"])
            .unwrap()
            .value(&[3.0, 0.5])
    }

    #[test]
    fn formulas_mean_what_they_mean_elsewhere() {
        assert_eq!(value("1 + 2 * a - 4 / 2 / 2"), 6.0);
        assert_eq!(value("-(a - 1) * -2"), 4.0);
        assert_eq!(value("exp(Δ·a)"), 1.5f64.exp());
        assert_eq!(value("ln(exp(2)) − 2e0"), 0.0);
        assert_eq!(value("1e-2 * 1.5E+2"), 1.5);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let wrong = |text: &str| Expr::parse(text, &["a"]).unwrap_err().to_string();
        assert!(wrong("a + ").contains("character 5"));
        assert!(wrong("a b").contains("operator"));
        assert!(wrong("(a").contains("closing"));
        assert!(wrong("spawn(a)").contains("one of a, exp, ln"));
        assert!(wrong("1.2.3").contains("\"1.2.3\""));
        assert!(wrong("exp a").contains("opening"));
        assert!(wrong("").contains("the end"));
    }

    #[test]
    fn hostile_formulas_are_refused() {
        let deep = "(".repeat(MAX_DEPTH + 1);
        assert!(matches!(
            Expr::parse(&deep, &[]),
            Err(ExprError::TooDeep { .. })
        ));
        let signs = "-".repeat(MAX_LENGTH);
        assert!(matches!(
            Expr::parse(&signs, &[]),
            Err(ExprError::TooDeep { .. })
        ));
        assert!(matches!(
            Expr::parse(&"1+".repeat(MAX_LENGTH), &[]),
            Err(ExprError::TooLong { .. })
        ));
    }
}
