package main

import (
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// at returns an operation between two times.
func at(call, returned int64, input Input, output Output) porcupine.Operation {
	return porcupine.Operation{Input: input, Output: output, Call: call, Return: returned}
}

func is(number string) Output { return Output{Value: "v" + number, Etag: "e" + number, UID: "u"} }

var (
	create1   = Input{RPC: "Create", Value: "v1"}
	create2   = Input{RPC: "Create", Value: "v2"}
	ensure1   = Input{RPC: "Ensure", Value: "v1"}
	ensure2   = Input{RPC: "Ensure", Value: "v2"}
	update2   = Input{RPC: "Update", Value: "v2"}
	update2if = Input{RPC: "Update", Value: "v2", Etag: "e1"}
	update3if = Input{RPC: "Update", Value: "v3", Etag: "e1"}
	get       = Input{RPC: "Get"}
	remove1   = Input{RPC: "Delete"}
	undelete1 = Input{RPC: "Undelete"}
	notFound  = Output{Reason: "WORKSPACE_NOT_FOUND"}
	exists    = Output{Reason: "WORKSPACE_EXISTS", UID: "u"}
	taken     = Output{Reason: "WORKSPACE_EXISTS"}
	mismatch2 = Output{Reason: "ETAG_MISMATCH", Current: "e2"}
	created1  = Output{Value: "v1", Etag: "e1", UID: "u", Created: true}
	created2  = Output{Value: "v2", Etag: "e2", UID: "w", Created: true}
	other2    = Output{Value: "v2", Etag: "e2", UID: "w"}
)

func TestModel(t *testing.T) {
	for _, test := range []struct {
		name    string
		right   bool
		history []porcupine.Operation
	}{
		{"a read sees what was written", true, []porcupine.Operation{
			at(0, 1, create1, is("1")), at(2, 3, update2, is("2")), at(4, 5, get, is("2"))}},
		{"a read during an update sees either", true, []porcupine.Operation{
			at(0, 1, create1, is("1")), at(2, 9, update2, is("2")), at(3, 4, get, is("1")), at(5, 6, get, is("2"))}},
		{"a read sees what was overwritten", false, []porcupine.Operation{
			at(0, 1, create1, is("1")), at(2, 3, update2, is("2")), at(4, 5, get, is("1"))}},
		{"reads go backwards during an update", false, []porcupine.Operation{
			at(0, 1, create1, is("1")), at(2, 9, update2, is("2")), at(3, 4, get, is("2")), at(5, 6, get, is("1"))}},
		{"an acknowledged create is lost", false, []porcupine.Operation{
			at(0, 1, create1, is("1")), at(2, 3, get, notFound)}},
		{"of two creators one wins", true, []porcupine.Operation{
			at(0, 5, create1, is("1")), at(1, 4, create2, exists)}},
		{"two creators win", false, []porcupine.Operation{
			at(0, 5, create1, is("1")), at(1, 4, create2, other2)}},
		{"two callers of Ensure create", false, []porcupine.Operation{
			at(0, 5, ensure1, created1), at(1, 4, ensure2, created2)}},
		{"one caller of Ensure creates", true, []porcupine.Operation{
			at(0, 5, ensure1, created1), at(1, 4, ensure2, is("1"))}},
		{"two updates on one etag", false, []porcupine.Operation{
			at(0, 1, create1, is("1")), at(2, 9, update2if, is("2")), at(3, 8, update3if, is("3"))}},
		{"one of two updates on one etag", true, []porcupine.Operation{
			at(0, 1, create1, is("1")), at(2, 9, update2if, is("2")), at(3, 8, update3if, mismatch2)}},
		{"an etag is refused that is current", false, []porcupine.Operation{
			at(0, 1, create1, is("1")), at(2, 3, update2if, mismatch2)}},
		{"an update keeps the etag", false, []porcupine.Operation{
			at(0, 1, create1, is("1")), at(2, 3, update2, Output{Value: "v2", Etag: "e1", UID: "u"})}},
		{"what was deleted comes back", true, []porcupine.Operation{
			at(0, 1, create1, is("1")), at(2, 3, remove1, is("1")), at(4, 5, get, notFound),
			at(6, 7, undelete1, is("1")), at(8, 9, get, is("1"))}},
		{"what was deleted is still there", false, []porcupine.Operation{
			at(0, 1, create1, is("1")), at(2, 3, remove1, is("1")), at(4, 5, get, is("1"))}},
		{"the one deleted last comes back", true, []porcupine.Operation{
			at(0, 1, create1, is("1")), at(2, 3, remove1, is("1")), at(4, 5, create2, other2),
			at(6, 7, remove1, other2), at(8, 9, undelete1, other2)}},
		{"the one deleted first comes back", false, []porcupine.Operation{
			at(0, 1, create1, is("1")), at(2, 3, remove1, is("1")), at(4, 5, create2, other2),
			at(6, 7, remove1, other2), at(8, 9, undelete1, is("1"))}},
		{"one deletion is undone twice", false, []porcupine.Operation{
			at(0, 1, create1, is("1")), at(2, 3, remove1, is("1")), at(4, 9, undelete1, is("1")),
			at(5, 6, remove1, is("1")), at(7, 8, undelete1, notFound)}},
		{"an empty trash has nothing", true, []porcupine.Operation{at(0, 1, undelete1, notFound)}},
		{"the name is taken again", true, []porcupine.Operation{
			at(0, 1, create1, is("1")), at(2, 3, remove1, is("1")), at(4, 5, create2, other2),
			at(6, 7, undelete1, taken)}},
		{"an error that is none of these", false, []porcupine.Operation{
			at(0, 1, create1, is("1")), at(2, 3, get, Output{Reason: "IO_ERROR"})}},
	} {
		if porcupine.CheckOperations(Model, test.history) != test.right {
			t.Errorf("%s: should be linearizable: %v", test.name, test.right)
		}
	}
}

func TestSpoiledHistoryIsRefused(t *testing.T) {
	history := []porcupine.Operation{
		at(0, 1, create1, is("1")), at(2, 3, update2if, is("2")), at(4, 5, get, is("2")), at(6, 7, get, is("2"))}
	wrong, ok := Spoil(history)
	if !ok || wrong[3].Output != is("1") || history[3].Output != is("2") {
		t.Fatalf("Spoil returns %v, %v", wrong, ok)
	}
	if porcupine.CheckOperationsTimeout(Model, wrong, time.Minute) != porcupine.Illegal {
		t.Error("a stale read is accepted")
	}
	if _, ok := Spoil(history[:2]); ok {
		t.Error("there is no read to spoil")
	}
}

func TestCheckNeedsOperations(t *testing.T) {
	if check(map[string][]porcupine.Operation{}, time.Minute, t.TempDir()) {
		t.Error("an empty set of histories is accepted")
	}
}
