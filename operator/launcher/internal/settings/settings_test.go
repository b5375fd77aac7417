package settings

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

const good = `{"version":1,"command":["python3","/crucible/code/main.py"],"cwd":"/work","env":{"SEED":"1"},
"stdinPath":"/crucible/code/.stdin","timeoutSeconds":60,"graceSeconds":5,"maxStreamBytes":1048576,"maxEmittedBytes":8388608,
"artifacts":{"paths":["out/**"],"maxBytes":4194304,"maxFiles":1000},
"limits":{"fileSizeBytes":67108864,"processes":128,"openFiles":1024}}`

func TestParse(t *testing.T) {
	settings, err := Parse([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if settings.Command[1] != "/crucible/code/main.py" || settings.TimeoutSeconds != 60 || settings.Limits.Processes != 128 ||
		settings.Artifacts.Paths[0] != "out/**" {
		t.Errorf("%+v", settings)
	}
}

func TestEnvironment(t *testing.T) {
	settings, err := Parse([]byte(strings.Replace(good, `"SEED":"1"`, `"SEED":"1","HOME":"/else"`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	got := settings.Environment()
	want := []string{"HOME=/else", "LANG=C.UTF-8", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "SEED=1", "TMPDIR=/tmp"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestRefused(t *testing.T) {
	for name, change := range map[string][2]string{
		"another version":      {`"version":1`, `"version":2`},
		"an unknown field":     {`"version":1`, `"version":1,"debug":true`},
		"an unknown limit":     {`"openFiles":1024`, `"openFiles":1024,"memory":1`},
		"no command":           {`["python3","/crucible/code/main.py"]`, `[]`},
		"an empty program":     {`"python3"`, `""`},
		"NUL in an argument":   {`"python3"`, `"a\u0000b"`},
		"a relative directory": {`"/work"`, `"work"`},
		"a bad variable":       {`"SEED"`, `"SE=ED"`},
		"a relative stdin":     {`"/crucible/code/.stdin"`, `".stdin"`},
		"no time":              {`"timeoutSeconds":60`, `"timeoutSeconds":0`},
		"negative time":        {`"timeoutSeconds":60`, `"timeoutSeconds":-1`},
		"an eternity":          {`"timeoutSeconds":60`, `"timeoutSeconds":1e300`},
		"negative grace":       {`"graceSeconds":5`, `"graceSeconds":-5`},
		"a negative cap":       {`"maxStreamBytes":1048576`, `"maxStreamBytes":-1`},
		"no room":              {`"maxEmittedBytes":8388608`, `"maxEmittedBytes":1000`},
		"a pattern upwards":    {`"out/**"`, `"../**"`},
		"few processes":        {`"processes":128`, `"processes":1`},
		"a negative limit":     {`"processes":128`, `"processes":-1`},
		"no limit of files":    {`"fileSizeBytes":67108864,`, ``},
		"trailing garbage":     {`1024}}`, `1024}}{}`},
		"not JSON":             {`{"version"`, `{version`},
	} {
		text := strings.Replace(good, change[0], change[1], 1)
		if text == good {
			t.Fatalf("%s: nothing was changed", name)
		}
		if _, err := Parse([]byte(text)); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

// FuzzParse checks that whatever is accepted can be relied on, and survives being written and read again.
func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(`{"version":1}`))
	f.Add([]byte(strings.Replace(good, "60", "6e1", 1)))
	f.Fuzz(func(t *testing.T, data []byte) {
		settings, err := Parse(data)
		if err != nil {
			return
		}
		if len(settings.Command) == 0 || settings.Cwd[0] != '/' || settings.TimeoutSeconds <= 0 || settings.MaxStreamBytes < 0 ||
			settings.MaxEmittedBytes < MinEmittedBytes || settings.Limits.Processes < MinProcesses {
			t.Fatalf("accepted %+v", settings)
		}
		for _, text := range append(settings.Environment(), settings.Command...) {
			if strings.IndexByte(text, 0) >= 0 {
				t.Fatalf("NUL in %q", text)
			}
		}
		again, err := json.Marshal(settings)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(again); err != nil && len(again) <= maxFileBytes {
			t.Fatalf("%s is refused after it was accepted: %v", again, err)
		}
	})
}
