//! Two releases of something like KubeOne, 1.3 and 1.4, in all shapes that its files have had.

use super::checkout::Checkout;

pub const IMAGES: &str = "pkg/templates/images/images.go";
pub const VALIDATION: &str = "pkg/apis/kubeone/validation/validation.go";
pub const HELPERS: &str = "pkg/apis/kubeone/helpers.go";
pub const ENSURE: &str = "pkg/addons/ensure.go";
pub const NAMES: &str = "pkg/templates/resources/resources.go";
pub const KUBEADM: &str = "pkg/templates/kubeadm/v1beta3/kubeadm.go";
pub const NET: &str = "addons/net/net.yaml";

/// The list with a table of `base` and one of `optional`.
pub fn images(base: &str, optional: &str) -> String {
    format!(
        r#"// Package images has a text like "func baseResources() {{" in a comment.
package images

const (
	// Net is first.
	Net Resource = iota + 1
	Volume
)

func baseResources() map[Resource]map[string]string {{
	return map[Resource]map[string]string{{
{base}	}}
}}

func optionalResources() map[Resource]map[string]string {{
	return map[Resource]map[string]string{{
{optional}	}}
}}

func allResources() map[Resource]map[string]string {{
	ret := map[Resource]map[string]string{{}}
	maps.Copy(ret, baseResources())
	return ret
}}
"#
    )
}

const BASE: &str = r#"		Net: {"*": "acme/net:v1"},
"#;

const OPTIONAL: &str = r#"		// Volumes, see https://example.com/{volumes}
		Volume: {
			"1.20.x": "k8s.gcr.io/acme/volume:v1.20.0", // for 1.20
			/* and
			   newer */
			">= 1.21.0": "k8s.gcr.io/acme/volume:v1.21.0",
		},
		Left: {">= 1.20.0": "quay.io/acme/left:v1"},
"#;

const NAMES_GO: &str = r#"package resources

const (
	AddonNet    = "net"
	AddonVolume = "volume" // TODO: another name
)
"#;

const ENSURE_GO: &str = r#"package addons

// embeddedAddons are embedded.
var (
	embeddedAddons = map[string]string{
		resources.AddonNet: "",
	}
)

func EnsureUserAddons(s *state.State) error {
	return nil
}
"#;

/// 1.3.0 has no upper bound for Kubernetes, and leaves etcd and pause alone.
fn first_release(upstream: &Checkout) {
    upstream.files(&[
        (IMAGES, &images(BASE, OPTIONAL)),
        (
            VALIDATION,
            r#"package validation

func ValidateVersionConfig(version kubeone.VersionConfig) field.ErrorList {
	if v.Major() != 1 || v.Minor() < 20 {
		return nil
	}
}
"#,
        ),
        (HELPERS, "package kubeone\n"),
        (NAMES, NAMES_GO),
        (ENSURE, ENSURE_GO),
        (KUBEADM, "package v1beta3\n\nfunc NewConfig(s *state.State) error {\n\treturn nil\n}\n"),
        (NET, "spec:\n  - image: {{ .InternalImages.Get \"Net\" }}\n    args: [--pause={{ .InternalImages.Get \"PauseImage\" }}]\n"),
        ("addons/volume/volume.yml", "image: '{{ .InternalImages.Get \"Volume\" }}'\n# image: alpine:3\n"),
        ("addons/volume/left.json", "{\n  \"image\": \"{{ .InternalImages.Get \\\"Left\\\" }}\"\n}\n"),
        ("addons/volume/README.md", "image: {{ .Anything }}\n"),
        ("addons/volume/overlay/x.yaml", "image: {{ .Anything }}\n"),
    ]);
    upstream.edit("addons/volume/left.json", &[("\\\"", "\"")]);
    upstream.tag("v1.3.0", "2021-09-15");
}

/// 1.3.1 has two constraints, sets etcd in place, and lists a resource less and one more.
fn second_release(upstream: &Checkout) {
    upstream
        .file(
            VALIDATION,
            "const (\n\tlowerVersionConstraint = \">= 1.20\"\n\tupperVersionConstraint = \"<= 1.22\"\n)\n",
        )
        .file(
            KUBEADM,
            r#"package v1beta3

const (
	greaterOrEqualThan122 = ">= 1.22.0"
)

func NewConfig(s *state.State) error {
	etcdIntegrityCheckConstraint, err := semver.NewConstraint(greaterOrEqualThan122)
	if err != nil {
		return err
	}
	etcdImageTag := cluster.AssetConfiguration.Etcd.ImageTag
	if etcdIntegrityCheckConstraint.Check(kubeSemVer) {
		if etcdImageTag == "" {
			etcdImageTag = "3.5.3-0"
		}
	}
	return nil
}
"#,
        )
        .edit(
            IMAGES,
            &[
                ("acme/net:v1", "acme/net:v2"),
                (
                    "		Left: {\">= 1.20.0\": \"quay.io/acme/left:v1\"},\n",
                    "		Old: {\n\t\t\t\"< 1.22.0\": \"quay.io/acme/old:v1\",\n\t\t},\n",
                ),
            ],
        )
        .remove("addons/volume/left.json")
        .tag("v1.3.1", "2021-11-18");
}

/// 1.4.0 has the newer constraints and a table of cases for etcd and for pause.
fn third_release(upstream: &Checkout) {
    upstream
        .file(
            VALIDATION,
            "var (\n\tminVersionConstraint = semverutil.MustParseConstraint(\">= 1.21\")\n\tmaxVersionConstraint = semverutil.MustParseConstraint(\"<= 1.23\")\n)\n",
        )
        .file(
            HELPERS,
            r#"package kubeone

var (
	v121Constraint         = semverutil.MustParseConstraint(">= 1.21.0, < 1.22.0")
	v122AndNewerConstraint = semverutil.MustParseConstraint(">= 1.22.0")
)

func (v VersionConfig) SandboxImage(imageRegistry func(string) string) (string, error) {
	registry := imageRegistry("registry.k8s.io")

	return SandboxImage(v.Kubernetes, registry)
}

func SandboxImage(version, registry string) (string, error) {
	switch {
	case v121Constraint.Check(kubeSemVer):
		return fmt.Sprintf("%s/pause:3.4", registry), nil
	case v122AndNewerConstraint.Check(kubeSemVer):
		fallthrough
	default:
		return fmt.Sprintf("%s/pause:3.5", registry), nil
	}
}
"#,
        )
        .file(
            KUBEADM,
            r#"package v1beta3

const (
	fixedEtcdVersion = "3.5.6-0"
	fixedEtcd123     = ">= 1.23.99, < 1.24"
)

var (
	fixedEtcd122Constraint = semverutil.MustParseConstraint(">= 1.22.9, < 1.23")
	fixedEtcd123Constraint = semverutil.MustParseConstraint(fixedEtcd123)
)

func NewConfig(s *state.State) error {
	etcdImageTag, etcdExtraArgs := etcdVersionCorruptCheckExtraArgs(kubeSemVer, cluster.AssetConfiguration.Etcd.ImageTag)
	return nil
}

func etcdVersionCorruptCheckExtraArgs(kubeVersion *semver.Version, etcdImageTag string) (string, map[string]string) {
	etcdExtraArgs := map[string]string{
		"experimental-initial-corrupt-check": "true",
	}

	switch {
	case etcdImageTag != "":
		return etcdImageTag, etcdExtraArgs
	case fixedEtcd122Constraint.Check(kubeVersion):
		return "", etcdExtraArgs
	case fixedEtcd123Constraint.Check(kubeVersion):
		fallthrough
	default:
		return fixedEtcdVersion, etcdExtraArgs
	}
}
"#,
        )
        .file("pkg/templates/kubeadm/v1beta4/kubeadm.go", "package v1beta4\n")
        .edit(ENSURE, &[("return nil", "return s.Err // a comment"), ("embedded.", "embedded here.")])
        .edit(
            IMAGES,
            &[
                ("\"1.20.x\": \"k8s.gcr.io/acme/volume:v1.20.0\"", "\"1.21.x\": \"registry.k8s.io/acme/volume:v1.21.0\""),
                ("\">= 1.21.0\": \"k8s.gcr.io/acme/volume:v1.21.0\"", "\">=1.22.x\": \"registry.k8s.io/acme/volume:v1.22.0\""),
            ],
        )
        .tag("v1.4.0", "2022-02-16");
}

/// 1.4.1 makes its constraints of two constants, has Windows' line ends, and an addon that names an image itself.
fn fourth_release(upstream: &Checkout) {
    upstream
        .file(
            VALIDATION,
            r#"const (
	MinimumSupportedVersion = "1.21"
	MaximumSupportedVersion = "1.23"
)
var (
	minVersionConstraint = semverutil.MustParseConstraint(fmt.Sprintf(">= %s", MinimumSupportedVersion))
	maxVersionConstraint = semverutil.MustParseConstraint(fmt.Sprintf("<= %s", MaximumSupportedVersion))
)
"#,
        )
        .edit(IMAGES, &[("acme/net:v2", "docker.io/acme/net:v3")])
        .edit(IMAGES, &[("\n", "\r\n")])
        .file(
            "addons/tools/tools.yaml",
            "image: {{ Registry \"quay.io\" }}/acme/tool:v1\n---\nimage: alpine:3\n",
        )
        .tag("v1.4.1", "2022-04-04");
}

/// All four, among tags that are no releases.
pub fn kubeone() -> Checkout {
    let upstream = Checkout::new();
    upstream.file("README", "Nothing yet").tag("v1.2.0", "2021-06-01");
    first_release(&upstream);
    second_release(&upstream);
    third_release(&upstream);
    fourth_release(&upstream);
    upstream.file(IMAGES, "broken").tag("v1.4.2-rc.0", "2022-05-01");
    for other in ["nightly", "v1.5", "v1.4.2.1", "v01.4.2", "1.4.2", "docs/v1.4.2"] {
        upstream.name(other);
    }
    upstream.restore("v1.4.1");
    upstream
}

pub const CONSTANTS: &str = "cmd/kubeadm/app/constants/constants.go";
pub const UNIX_CONSTANTS: &str = "cmd/kubeadm/app/constants/constants_unix.go";

/// Something like Kubernetes, of which the catalog does not know the newest tags yet.
pub fn kubernetes() -> Checkout {
    let upstream = Checkout::new();
    upstream.file("README", "No constants yet").tag("v1.19.0", "2020-08-26");
    upstream.file(
        CONSTANTS,
        r#"package constants

const (
	// DefaultEtcdVersion is another one
	DefaultEtcdVersion = "3.5.0-0"
	CoreDNSVersion     = "1.7.0"
)

var (
	// SupportedEtcdVersion has one for each minor
	SupportedEtcdVersion = map[uint8]string{
		20: "3.4.13-0",
		21: "3.4.13-0",
		22: "3.5.0-0", // the newest
	}
)
"#,
    );
    let unix = "// +build !windows\n\npackage constants\n\nconst (\n\tPauseVersion = \"3.2\"\n)\n";
    upstream.file(UNIX_CONSTANTS, unix);
    upstream.tag("v1.20.0", "2020-12-08").tag("v1.20.1", "2020-12-18");
    let pause = "CoreDNSVersion     = \"v1.8.0\"\n\tPauseVersion       = \"3.4.1\"";
    upstream.edit(CONSTANTS, &[("CoreDNSVersion     = \"1.7.0\"", pause)]);
    upstream.edit(UNIX_CONSTANTS, &[("\tPauseVersion = \"3.2\"\n", "\tSocket = \"/var/run/s.sock\"\n")]);
    upstream.tag("v1.21.0", "2021-04-08").tag("v1.21.1", "2021-05-12");
    upstream.edit(CONSTANTS, &[("21: \"3.4.13-0\"", "21: \"3.4.13-3\""), ("\n", "\r\n")]);
    upstream.tag("v1.21.2", "2021-06-16").tag("v1.22.0", "2021-08-04").tag("v1.22.1", "2021-08-19");
    upstream.file(CONSTANTS, "broken").tag("v1.23.0-rc.0", "2021-11-30");
    upstream.restore("v1.22.1");
    upstream.edit(CONSTANTS, &[("22: \"3.5.0-0\"", "22: \"3.5.0-0\",\n\t\t23: \"3.5.1-0\"")]);
    upstream.tag("v1.23.0", "2021-12-07");
    upstream
}
