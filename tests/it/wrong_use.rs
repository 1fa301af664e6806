//! What a user can get wrong, told before anything is requested; and what is large, but not wrong.

use crate::program::Program;

fn refused(program: Program) -> String {
    let ended = program.run().expect(2);
    assert_eq!(ended.stdout, "");
    assert!(ended.stderr.starts_with("error: "), "{}", ended.stderr);
    ended.stderr
}

#[test]
fn a_host_that_a_url_cannot_have_or_would_change_is_refused_wherever_it_is_named() {
    for host in
        ["256.1.1.1", "foo.123", "xn--a.example.com", "127.1:5000", "0x7f.1", "[0:0::1]:5000", "r.io:080"]
    {
        let told = |program: Program| {
            let told = refused(program);
            assert!(told.contains(host), "{host}: {told}");
            told
        };
        told(Program::new(&[&format!("{host}/path")]));
        told(Program::new(&["--image", &format!("{host}/a/b:1"), "r"]));
        told(Program::new(&["--source-mirror", &format!("docker.io={host}/hub"), "r"]));
        told(Program::new(&["--source-mirror", &format!("{host}=r.example.com"), "r"]));
        let list = format!("alpine:3\n# another\n{host}/a/b:1\n");
        let line = told(Program::new(&["--images-from", "-", "r"]).stdin(&list));
        assert!(line.contains("standard input, line 3: "), "{line}");
    }
    let good = ["127.0.0.1:5000", "[::1]:5000", "xn--mnchen-3ya.example.com", "R.example.com:443", "1a.2b"];
    for host in good {
        Program::new(&["--dry-run", "--image", &format!("{host}/a/b:1"), "r"]).run().expect(0);
    }
}
