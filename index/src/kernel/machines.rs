//! All versions of the kernels that this machine can run; searches take the first, tests and benches all of them.

use std::sync::LazyLock;

use super::lanes::{Grade, Layout, QueryLanes, Tokens};

/// Of a query with levels, scales and half norms; the places found.
type Nearest = fn(&QueryLanes, &[u8], &[f32], &[f32], &mut [u32]);

/// The kernels compiled for one instruction set.
pub(crate) struct Version {
    /// The name of its module.
    pub name: &'static str,
    /// How it takes the query.
    pub layout: Layout,
    pub raise_best: fn(&QueryLanes, Grade, Tokens<'_>, &mut [f32]),
    pub fill_rows: fn(&QueryLanes, Grade, &[u8], &[f32], &mut [f32]),
    pub nearest: Nearest,
}

/// The version that searches take.
pub(super) fn chosen() -> &'static Version {
    static CHOSEN: LazyLock<Version> = LazyLock::new(|| present().swap_remove(0));
    &CHOSEN
}

/// The widest first, the portable one last.
pub(crate) fn present() -> Vec<Version> {
    let mut versions = Vec::new();
    /// Adds the entry points of a module where the machine has what they need.
    macro_rules! add {
        ($module:ident) => {
            if super::$module::is_present() {
                use super::$module;
                versions.push(Version {
                    name: stringify!($module),
                    layout: $module::LAYOUT,
                    // SAFETY: the instruction set was just found.
                    raise_best: |a, b, c, d| unsafe { $module::raise_best(a, b, c, d) },
                    // SAFETY: as above.
                    fill_rows: |a, b, c, d, e| unsafe { $module::fill_rows(a, b, c, d, e) },
                    // SAFETY: as above.
                    nearest: |a, b, c, d, e| unsafe { $module::nearest(a, b, c, d, e) },
                });
            }
        };
    }
    #[cfg(target_arch = "x86_64")]
    {
        add!(amx);
        add!(vnni_wide);
        add!(vnni);
        add!(avx2);
    }
    #[cfg(target_arch = "aarch64")]
    {
        add!(neon_dot);
        add!(neon);
    }
    versions.push(Version {
        name: "portable",
        layout: super::portable::LAYOUT,
        raise_best: super::portable::raise_best,
        fill_rows: super::portable::fill_rows,
        nearest: super::portable::nearest,
    });
    versions
}
