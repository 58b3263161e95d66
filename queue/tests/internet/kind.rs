//! The kinds of sites, and how the mail for each of them ends.

use std::time::Duration;

/// The end of the messages for a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// All are delivered.
    Delivered,
    /// All fail, with one of these enhanced codes, or reply codes if the reply has no other.
    Fails(&'static [&'static str]),
    /// The recipient is on the suppression list by then.
    Suppressed,
}

/// The TLS under which a site gets messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Under {
    Tls,
    PlainText,
    /// Both happen: its hosts are not alike.
    Either,
}

/// What is special about the messages for a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Plain,
    /// With a text of 40,000 bytes.
    Large,
    /// With letters that are not ASCII.
    EightBit,
    /// With REQUIRETLS.
    RequireTls,
    /// With `TLS-Required: No`.
    TlsNotRequired,
}

/// When the messages for a site come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rush {
    /// Over the day.
    None,
    /// So many of them come at once.
    Of(usize),
}

/// A kind of sites, by what is wrong with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    // Hosts that take mail.
    Healthy,
    SharedHosts,
    Slow,
    LateGreeting,
    LateEndOfData,
    FirstHostDead,
    OneFamilyDead,
    ImplicitHost,
    Alias,
    Moves,
    // Limits.
    FewConnections,
    FewInAMinute,
    Greylist,
    FewRecipients,
    Block,
    Paused,
    // Dead hosts.
    Refused,
    BlackHole,
    NoWay,
    Outage,
    SilentOutage,
    BusyOutage,
    LaterOutage,
    // Broken sessions.
    GarbageGreeting,
    GarbageEhlo,
    EndlessEhlo,
    SilentGreeting,
    SilentRcpt,
    DropAtGreeting,
    DropAtMail,
    DropAtRcpt,
    DropAtData,
    DropInText,
    DropBehindText,
    RefusesGreeting,
    RefusesForGood,
    RefusesEhlo,
    RefusesData,
    // DNS.
    NoAddress,
    NoDomain,
    NullMx,
    OurName,
    OurAddress,
    AliasLoop,
    ServFail,
    ServFailForever,
    // TLS without policies.
    TlsSelfSigned,
    TlsExpired,
    TlsTrusted,
    TlsCut,
    TlsRefused,
    // DANE.
    DaneKey,
    DaneIssuer,
    DaneOneOfTwo,
    DaneExpiredKey,
    DaneExpiredIssuer,
    DaneNoMatch,
    DaneNoMatchUnsigned,
    DaneBogus,
    DaneStripped,
    DaneUnusable,
    // MTA-STS.
    StsEnforced,
    StsSelfSigned,
    StsStripped,
    StsTesting,
    StsOtherHost,
    StsMissing,
    StsSilent,
    // What messages need.
    RequireTlsOffered,
    RequireTlsMissing,
    RequireTlsUnproven,
    TlsNotRequired,
    SmallSize,
    SmallSizeFirst,
    NoEightBit,
}

impl Kind {
    pub(crate) const ALL: &[Self] = &[
        Self::Healthy,
        Self::SharedHosts,
        Self::Slow,
        Self::LateGreeting,
        Self::LateEndOfData,
        Self::FirstHostDead,
        Self::OneFamilyDead,
        Self::ImplicitHost,
        Self::Alias,
        Self::Moves,
        Self::FewConnections,
        Self::FewInAMinute,
        Self::Greylist,
        Self::FewRecipients,
        Self::Block,
        Self::Paused,
        Self::Refused,
        Self::BlackHole,
        Self::NoWay,
        Self::Outage,
        Self::SilentOutage,
        Self::BusyOutage,
        Self::LaterOutage,
        Self::GarbageGreeting,
        Self::GarbageEhlo,
        Self::EndlessEhlo,
        Self::SilentGreeting,
        Self::SilentRcpt,
        Self::DropAtGreeting,
        Self::DropAtMail,
        Self::DropAtRcpt,
        Self::DropAtData,
        Self::DropInText,
        Self::DropBehindText,
        Self::RefusesGreeting,
        Self::RefusesForGood,
        Self::RefusesEhlo,
        Self::RefusesData,
        Self::NoAddress,
        Self::NoDomain,
        Self::NullMx,
        Self::OurName,
        Self::OurAddress,
        Self::AliasLoop,
        Self::ServFail,
        Self::ServFailForever,
        Self::TlsSelfSigned,
        Self::TlsExpired,
        Self::TlsTrusted,
        Self::TlsCut,
        Self::TlsRefused,
        Self::DaneKey,
        Self::DaneIssuer,
        Self::DaneOneOfTwo,
        Self::DaneExpiredKey,
        Self::DaneExpiredIssuer,
        Self::DaneNoMatch,
        Self::DaneNoMatchUnsigned,
        Self::DaneBogus,
        Self::DaneStripped,
        Self::DaneUnusable,
        Self::StsEnforced,
        Self::StsSelfSigned,
        Self::StsStripped,
        Self::StsTesting,
        Self::StsOtherHost,
        Self::StsMissing,
        Self::StsSilent,
        Self::RequireTlsOffered,
        Self::RequireTlsMissing,
        Self::RequireTlsUnproven,
        Self::TlsNotRequired,
        Self::SmallSize,
        Self::SmallSizeFirst,
        Self::NoEightBit,
    ];

    /// How the messages for the site end, if nothing is special about their recipients.
    pub(crate) const fn end(self) -> End {
        match self {
            // The last attempt, or the end of the time.
            Self::Refused | Self::BlackHole | Self::NoWay => End::Fails(&["4.4.1", "5.4.7"]),
            Self::ServFailForever | Self::AliasLoop => End::Fails(&["4.4.3", "5.4.7"]),
            Self::DaneExpiredIssuer | Self::DaneNoMatch => End::Fails(&["4.7.5", "5.4.7"]),
            Self::DaneStripped | Self::StsStripped => End::Fails(&["4.7.4", "5.4.7"]),
            Self::RefusesGreeting => End::Fails(&["554"]),
            Self::RefusesForGood => End::Fails(&["521"]),
            Self::RefusesEhlo => End::Fails(&["550"]),
            Self::RefusesData => End::Fails(&["5.3.0"]),
            Self::NoAddress => End::Fails(&["5.4.4"]),
            Self::NoDomain => End::Fails(&["5.1.2"]),
            Self::NullMx => End::Fails(&["5.1.10"]),
            Self::OurName | Self::OurAddress => End::Fails(&["5.4.6"]),
            Self::RequireTlsMissing | Self::RequireTlsUnproven => End::Fails(&["5.7.30"]),
            Self::SmallSize => End::Fails(&["5.3.4"]),
            _ => End::Delivered,
        }
    }

    /// The TLS under which its hosts get messages.
    pub(crate) const fn under(self) -> Under {
        match self {
            Self::TlsSelfSigned
            | Self::TlsExpired
            | Self::TlsTrusted
            | Self::DaneKey
            | Self::DaneIssuer
            | Self::DaneOneOfTwo
            | Self::DaneExpiredKey
            | Self::DaneExpiredIssuer
            | Self::DaneNoMatch
            | Self::DaneNoMatchUnsigned
            | Self::DaneBogus
            | Self::DaneStripped
            | Self::DaneUnusable
            | Self::StsEnforced
            | Self::StsSelfSigned
            | Self::StsStripped
            | Self::StsTesting
            | Self::StsOtherHost
            | Self::StsMissing
            | Self::StsSilent
            | Self::RequireTlsOffered
            | Self::RequireTlsMissing
            | Self::TlsNotRequired => Under::Tls,
            Self::SharedHosts => Under::Either,
            _ => Under::PlainText,
        }
    }

    pub(crate) const fn form(self) -> Form {
        match self {
            Self::RequireTlsOffered | Self::RequireTlsMissing | Self::RequireTlsUnproven => {
                Form::RequireTls
            }
            Self::TlsNotRequired => Form::TlsNotRequired,
            Self::SmallSize | Self::SmallSizeFirst => Form::Large,
            Self::NoEightBit => Form::EightBit,
            _ => Form::Plain,
        }
    }

    pub(crate) const fn rush(self) -> Rush {
        match self {
            // More than a few connections take at once.
            Self::FewConnections => Rush::Of(130),
            Self::FewInAMinute => Rush::Of(40),
            Self::Block | Self::Paused | Self::Refused | Self::Outage => Rush::Of(5),
            _ => Rush::None,
        }
    }

    /// Whether mailboxes with a nature of their own are tried there: the site itself delays nothing
    /// and refuses nothing.
    pub(crate) const fn has_mailboxes(self) -> bool {
        matches!(self, Self::Healthy | Self::SharedHosts | Self::TlsTrusted)
    }

    /// Whether a host takes messages and breaks off before it says so. Then they come again.
    pub(crate) const fn repeats(self) -> bool {
        matches!(self, Self::DropBehindText)
    }

    /// The share of a kind among the sites beside one of each kind.
    pub(crate) fn weight(self) -> u32 {
        match self {
            Self::Healthy => 200,
            Self::SharedHosts | Self::TlsTrusted | Self::TlsSelfSigned => 60,
            Self::Slow | Self::Greylist | Self::DaneKey | Self::StsEnforced => 15,
            _ if self.end() != End::Delivered => 1,
            _ => 3,
        }
    }

    /// How much of the mail goes to such a site. Mail that stays in the queue for a day is rare.
    pub(crate) fn share(self) -> f64 {
        match self.end() {
            End::Delivered => 1.0,
            _ => 0.05,
        }
    }

    /// The most attempts that a message for the site may need.
    pub(crate) const fn attempts_max(self) -> usize {
        match self {
            Self::Healthy | Self::SharedHosts | Self::Slow => 1,
            Self::Greylist => 2,
            _ => 9,
        }
    }
}

/// The longest life of a message: all waits between its attempts, 31 hours 52.5 minutes. The end
/// comes when a look-up or a probe that is under way then is over.
pub(crate) const LIFE_MAX: Duration = Duration::from_secs((31 * 60 + 54) * 60);
