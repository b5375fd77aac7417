package glob

import (
	"path"
	"strings"
	"testing"
	"time"
)

func TestMatch(t *testing.T) {
	for _, test := range []struct {
		pattern, path string
		want          bool
	}{
		{"a.txt", "a.txt", true}, {"a.txt", "b.txt", false}, {"./a.txt", "a.txt", true},
		{"*.txt", "a.txt", true}, {"*.txt", "d/a.txt", false}, {"*.txt", ".txt", true}, {"*", ".hidden", true},
		{"out/**", "out", false}, {"out/**", "out/a", true}, {"out/**", "out/a/b/c", true}, {"out/**", "outer/a", false},
		{"**", "a", true}, {"**", "a/b/c", true}, {"**/*.json", "a.json", true}, {"**/*.json", "x/y/a.json", true},
		{"**/*.json", "x/y/a.jsonl", false}, {"a/**/b", "a/b", true}, {"a/**/b", "a/x/y/b", true}, {"a/**/b", "a/x/y/c", false},
		{"a/**/**/b", "a/b", true}, {"a**b", "axxb", true}, {"a**b", "a/b", false},
		{"?", "é", true}, {"?", "ab", false}, {"[a-c]x", "bx", true}, {"[!a-c]x", "bx", false}, {"[^a-c]x", "dx", true},
		{"[]]", "]", true}, {"[a-]", "-", true}, {"[é-ü]", "ö", true}, {`\*`, "*", true}, {`\*`, "a", false}, {`[\]]`, "]", true},
		{"*a*b*c", "xxaxxbxxc", true}, {"*a*b*c", "xxaxxbxx", false}, {"**/", "", false},
	} {
		pattern, err := Compile(test.pattern)
		if err != nil {
			if test.want {
				t.Errorf("%s: %v", test.pattern, err)
			}
			continue
		}
		if got := pattern.Match(test.path); got != test.want {
			t.Errorf("%s matches %s: %v", test.pattern, test.path, got)
		}
	}
}

func TestRefusedPatterns(t *testing.T) {
	for _, pattern := range []string{
		"", "/etc/passwd", "../x", "a/../b", "a//b", "a/", ".", "a/.", "[", "[]", "[a", "[a-", `\`, "a\x00b", "\xff", strings.Repeat("a", 1025),
		strings.Repeat("a/", 61) + "a",
	} {
		if _, err := Compile(pattern); err == nil {
			t.Errorf("%.40q was accepted", pattern)
		}
	}
}

func TestHostilePatternsAreQuick(t *testing.T) {
	pattern, err := Compile(strings.Repeat("**/*a*a*a*a*a*a*a/", 29) + "b")
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	pattern.Match(strings.Repeat(strings.Repeat("a", 250)+"/", 100) + "c")
	if took := time.Since(began); took > time.Second { // exponential matchers need years
		t.Errorf("took %v", took)
	}
}

// FuzzGlob compares single segments with path.Match where both mean the same, and checks that what Open says is true.
func FuzzGlob(f *testing.F) {
	for _, seed := range [][2]string{{"out/**", "out/a/b"}, {"[a-z]?*", "bcd"}, {`\[x`, "[x"}, {"**/a/**/b*", "a/a/b"}, {"[^\xc3\xa9]", "e"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, text, name string) {
		pattern, err := Compile(text)
		if err != nil || name == "" {
			return
		}
		matched := pattern.Match(name)
		state := pattern.Start()
		segments := strings.Split(name, "/")
		for i, segment := range segments {
			if !pattern.Open(state) && matched {
				t.Fatalf("%q matches %q, and nothing below segment %d was thought to", text, name, i)
			}
			state = pattern.Step(state, segment)
		}
		if strings.ContainsAny(text, "/!") || strings.Contains(text, "**") || strings.Contains(name, "/") || !strings.ContainsRune(text, '[') {
			if !strings.ContainsAny(text, `*?[\/`) && matched != (text == name) {
				t.Fatalf("%q matches %q: %v", text, name, matched)
			}
			return
		}
		if strings.Contains(text, "[]") || strings.Contains(text, "[^]") || strings.Contains(text, "-") || strings.ToValidUTF8(name, "") != name {
			return // path.Match reads these differently
		}
		if want, err := path.Match(text, name); err == nil && want != matched {
			t.Fatalf("%q matches %q: %v, path.Match says %v", text, name, matched, want)
		}
	})
}
