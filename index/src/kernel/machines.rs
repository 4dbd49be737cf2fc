//! All versions of the kernels that this machine can run, for tests and benches; searches take the first of them.

use super::lanes::{Grade, QueryLanes, Tokens};
use super::peak;

/// The kernels compiled for one instruction set.
pub(crate) struct Version {
    /// The name of its module.
    pub name: &'static str,
    pub raise_best: fn(&QueryLanes, Grade, Tokens<'_>, &mut [f32]),
    pub fill_rows: fn(&QueryLanes, Grade, &[u8], &[f32], &mut [f32]),
    pub nearest: fn(&QueryLanes, &[u8], &[f32], &[f32], &mut [u32]),
    /// As many operations per second as its multiplications can do.
    pub peak: Option<peak::Loop>,
}

/// The widest first, the portable one last.
pub(crate) fn present() -> Vec<Version> {
    let mut versions = Vec::new();
    /// Adds the entry points of a module where the machine has what they need.
    macro_rules! add {
        ($module:ident, $peak:expr) => {
            if super::$module::is_present() {
                use super::$module;
                versions.push(Version {
                    name: stringify!($module),
                    // SAFETY: the instruction set was just found.
                    raise_best: |a, b, c, d| unsafe { $module::raise_best(a, b, c, d) },
                    // SAFETY: as above.
                    fill_rows: |a, b, c, d, e| unsafe { $module::fill_rows(a, b, c, d, e) },
                    // SAFETY: as above.
                    nearest: |a, b, c, d, e| unsafe { $module::nearest(a, b, c, d, e) },
                    peak: $peak,
                });
            }
        };
    }
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: called only where the version was just found to be present, which needs the same instructions.
        add!(vnni, Some(|rounds| unsafe { peak::vnni(rounds) }));
        // SAFETY: as above.
        add!(avx2, Some(|rounds| unsafe { peak::avx2(rounds) }));
    }
    #[cfg(target_arch = "aarch64")]
    {
        add!(neon_dot, None);
        add!(neon, None);
    }
    versions.push(Version {
        name: "portable",
        raise_best: super::portable::raise_best,
        fill_rows: super::portable::fill_rows,
        nearest: super::portable::nearest,
        peak: None,
    });
    versions
}
