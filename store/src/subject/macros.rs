//! Macros with which subjects declare their parts. They spare each subject the same lines.

/// Implements [`Subject`](crate::subject::Subject) for the tables of a subject.
macro_rules! subject {
    (counters $counters:ty, keys $keys:expr $(, $item:item)*) => {
        impl $crate::subject::Subject for Tables {
            type Counters = $counters;
            const KEYS: u8 = $keys;

            fn counters(&self) -> $counters {
                self.counters
            }

            fn set_counters(&mut self, counters: $counters) {
                self.counters = counters;
            }

            $($item)*
        }
    };
}

/// Declares the operations of a low-rate subject. Each is a type of its own, with `apply` and
/// `apply_to_model`. Behind its output stands the [`Space`](crate::journal::Space) that it may use.
/// `since` is the first version whose operations have the same shape (by default, this version).
/// `older` reads the operations of the versions before that. `weighed by` names the function that
/// tells how many records an operation changes (by default, one).
macro_rules! operations {
    (
        $subject:ident, version $version:literal $(since $since:literal)? $(weighed by $weigh:ident)?
        $(older $older:path)?:
        $($operation:ident -> $output:ty, $space:ident;)*
    ) => {
        #[derive(Debug, serde::Serialize, serde::Deserialize)]
        pub(crate) enum Op {
            $($operation($operation),)*
        }

        impl $crate::subject::Operations for Op {
            const VERSION: u8 = $version;
            $(const SINCE: u8 = $since;)?

            $(fn older(
                version: u8,
                bytes: &[u8],
            ) -> Result<Self, $crate::table::value::Unreadable> {
                $older(version, bytes)
            })?

            fn apply(
                self,
                state: &mut $crate::subject::State,
                _: Option<$crate::journal::TextPlace>,
            ) -> Result<$crate::subject::Applied, $crate::error::Fault> {
                match self {
                    $(Self::$operation(op) => op
                        .apply(state)
                        .map($crate::subject::Output::into_applied),)*
                }
            }

            #[cfg(any(test, feature = "memory"))]
            fn apply_to_model(
                self,
                model: &mut $crate::subject::ModelState,
                _: Option<$crate::NewText>,
            ) -> $crate::subject::Applied {
                match self {
                    $(Self::$operation(op) =>
                        $crate::subject::Output::into_applied(op.apply_to_model(model)),)*
                }
            }

            $(fn changes(&self) -> usize {
                $weigh(self)
            })?

            fn space(&self) -> $crate::journal::Space {
                match self {
                    $(Self::$operation(_) => $crate::journal::Space::$space,)*
                }
            }
        }

        $(impl $crate::subject::Operation for $operation {
            type Output = $output;

            fn into_op(self) -> $crate::subject::Op {
                $crate::subject::Op::$subject(Op::$operation(self))
            }
        })*
    };
}

/// Declares questions: fields, the type of the answer, the answer of the tables, the answer of the
/// model.
macro_rules! questions {
    ($(
        $(#[$doc:meta])*
        $kind:ident $question:ident $(<$life:lifetime>)? { $($field:ident: $type:ty),* } -> $answer:ty,
        |$this:ident, $state:ident| $answering:expr,
        |$model_this:ident, $model:ident| $modelling:expr;
    )*) => {$(
        $(#[$doc])*
        pub(crate) struct $question $(<$life>)? { $(pub(crate) $field: $type,)* }

        questions!(
            @$kind $question $(<$life>)?, $answer,
            $this, $state, $answering, $model_this, $model, $modelling
        );
    )*};
    (@ask $question:ident $(<$life:lifetime>)?, $answer:ty, $this:ident, $state:ident,
        $answering:expr, $model_this:ident, $model:ident, $modelling:expr) => {
        impl $(<$life>)? $crate::subject::Question for $question $(<$life>)? {
            type Answer = $answer;

            fn answer(
                &self,
                $state: &$crate::subject::State,
            ) -> Result<$answer, $crate::error::Fault> {
                let $this = self;
                $answering
            }

            #[cfg(any(test, feature = "memory"))]
            fn answer_of_model(&self, $model: &$crate::subject::ModelState) -> $answer {
                let $model_this = self;
                $modelling
            }
        }
    };
    (@scan $question:ident, $answer:ty, $this:ident, $reader:ident,
        $answering:expr, $model_this:ident, $model:ident, $modelling:expr) => {
        impl $crate::subject::Scan for $question {
            type Answer = $answer;

            fn answer(
                &self,
                $reader: &$crate::subject::Reader<'_>,
            ) -> Result<$answer, $crate::StoreError> {
                let $this = self;
                $answering
            }

            #[cfg(any(test, feature = "memory"))]
            fn answer_of_model(&self, $model: &$crate::subject::ModelState) -> $answer {
                let $model_this = self;
                $modelling
            }
        }
    };
}
