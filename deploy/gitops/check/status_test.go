// Package check runs what GitOps tools conclude from the status of an Evaluation, suite or runtime over the status of every
// phase: kstatus itself (Flux, kpt), and the health check for Argo CD in a real Lua.
package check

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

// What each object in testdata must be taken for. The objects are written by
// gitops.test.ts in operator/src/evaluation, suite and runtime from the code that writes them in the cluster.
var expected = map[string]struct {
	kstatus status.Status
	argo    string
}{
	"new":                  {status.InProgressStatus, "Progressing"},
	"queued":               {status.InProgressStatus, "Progressing"},
	"queued-paused":        {status.InProgressStatus, "Suspended"},
	"queued-kueue":         {status.InProgressStatus, "Progressing"},
	"queued-retry":         {status.InProgressStatus, "Progressing"},
	"record-away":          {status.InProgressStatus, "Progressing"},
	"refused":              {status.FailedStatus, "Degraded"},
	"starting":             {status.InProgressStatus, "Progressing"},
	"running":              {status.InProgressStatus, "Progressing"},
	"capturing":            {status.InProgressStatus, "Progressing"},
	"succeeded":            {status.CurrentStatus, "Healthy"},
	"succeeded-not-passed": {status.CurrentStatus, "Healthy"},
	"failed":               {status.FailedStatus, "Degraded"},
	"cancelled":            {status.FailedStatus, "Degraded"},
	"finished-patched":     {status.InProgressStatus, "Progressing"},
	"finished-observed":    {status.CurrentStatus, "Healthy"},
	"deleting":             {status.TerminatingStatus, ""},

	"suite-new":               {status.InProgressStatus, "Progressing"},
	"suite-record-away":       {status.InProgressStatus, "Progressing"},
	"suite-refused":           {status.FailedStatus, "Degraded"},
	"suite-pending":           {status.InProgressStatus, "Progressing"},
	"suite-running":           {status.InProgressStatus, "Progressing"},
	"suite-held-up":           {status.InProgressStatus, "Progressing"},
	"suite-cancelling":        {status.InProgressStatus, "Progressing"},
	"suite-succeeded":         {status.CurrentStatus, "Healthy"},
	"suite-failed":            {status.FailedStatus, "Degraded"},
	"suite-failed-fast":       {status.FailedStatus, "Degraded"},
	"suite-cancelled":         {status.FailedStatus, "Degraded"},
	"suite-finished-patched":  {status.InProgressStatus, "Progressing"},
	"suite-finished-observed": {status.CurrentStatus, "Healthy"},

	"runtime-new":           {status.InProgressStatus, "Progressing"},
	"runtime-usable":        {status.CurrentStatus, "Healthy"},
	"runtime-without-class": {status.FailedStatus, "Degraded"},
}

func objects(t *testing.T) map[string]map[string]any {
	t.Helper()
	found := map[string]map[string]any{}
	files, err := filepath.Glob("testdata/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var object map[string]any
		if err := json.Unmarshal(text, &object); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		found[strings.TrimSuffix(filepath.Base(file), ".json")] = object
	}
	return found
}

func TestEveryObjectIsExpected(t *testing.T) {
	found := objects(t)
	for name := range expected {
		if found[name] == nil {
			t.Errorf("testdata/%s.json is missing", name)
		}
	}
	for name := range found {
		if _, known := expected[name]; !known {
			t.Errorf("testdata/%s.json is not in the table", name)
		}
	}
}

func TestKstatus(t *testing.T) {
	for name, object := range objects(t) {
		t.Run(name, func(t *testing.T) {
			result, err := status.Compute(&unstructured.Unstructured{Object: object})
			if err != nil {
				t.Fatal(err)
			}
			if result.Status != expected[name].kstatus {
				t.Errorf("kstatus says %s (%s), want %s", result.Status, result.Message, expected[name].kstatus)
			}
			if result.Status == status.FailedStatus && result.Message == "" {
				t.Error("a failure without a message")
			}
		})
	}
}

func TestArgoHealth(t *testing.T) {
	script, err := os.ReadFile("../argocd/health.lua")
	if err != nil {
		t.Fatal(err)
	}
	for name, object := range objects(t) {
		if expected[name].argo == "" {
			continue // Argo CD does not ask about what is being deleted.
		}
		t.Run(name, func(t *testing.T) {
			health, message := evaluate(t, string(script), object)
			if health != expected[name].argo {
				t.Errorf("Argo CD would say %q (%s), want %q", health, message, expected[name].argo)
			}
			if health != "Healthy" && message == "" {
				t.Error("no message")
			}
		})
	}
}

// The ConfigMap and the script are one text: people copy the ConfigMap.
func TestConfigMapHoldsTheScript(t *testing.T) {
	script, err := os.ReadFile("../argocd/health.lua")
	if err != nil {
		t.Fatal(err)
	}
	configMap, err := os.ReadFile("../argocd/argocd-cm.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var indented strings.Builder
	for _, line := range strings.Split(strings.TrimRight(string(script), "\n"), "\n") {
		if line != "" {
			indented.WriteString("    " + line)
		}
		indented.WriteString("\n")
	}
	for _, kind := range []string{"Evaluation", "EvaluationSuite", "EvaluationRuntime"} {
		if !strings.Contains(string(configMap), "  resource.customizations.health.crucible.dev_"+kind+": |\n"+indented.String()) {
			t.Errorf("argocd-cm.yaml does not hold health.lua as it is for %s", kind)
		}
	}
}

// As Argo CD runs it: only the safe libraries, the object as global obj, a table as result.
func evaluate(t *testing.T, script string, object map[string]any) (string, string) {
	t.Helper()
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{{lua.LoadLibName, lua.OpenPackage}, {lua.BaseLibName, lua.OpenBase}, {lua.TabLibName, lua.OpenTable}} {
		state.Push(state.NewFunction(library.open))
		state.Push(lua.LString(library.name))
		state.Call(1, 0)
	}
	state.SetGlobal("obj", value(state, object))
	if err := state.DoString(script); err != nil {
		t.Fatal(err)
	}
	result, isTable := state.Get(-1).(*lua.LTable)
	if !isTable {
		t.Fatalf("the script returned %s", state.Get(-1).Type())
	}
	return lua.LVAsString(result.RawGetString("status")), lua.LVAsString(result.RawGetString("message"))
}

func value(state *lua.LState, of any) lua.LValue {
	switch of := of.(type) {
	case map[string]any:
		table := state.NewTable()
		for key, item := range of {
			table.RawSetString(key, value(state, item))
		}
		return table
	case []any:
		table := state.NewTable()
		for _, item := range of {
			table.Append(value(state, item))
		}
		return table
	case string:
		return lua.LString(of)
	case int64: // as Kubernetes decodes whole numbers
		return lua.LNumber(of)
	case float64:
		return lua.LNumber(of)
	case bool:
		return lua.LBool(of)
	default:
		return lua.LNil
	}
}
