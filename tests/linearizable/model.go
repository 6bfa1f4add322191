package main

import (
	"fmt"
	"strings"

	"github.com/anishathalye/porcupine"
)

// Input is one call of one project.
type Input struct {
	RPC   string // Create, Get, Update, Delete, Undelete or Ensure
	Value string // What to store; every call that stores has a value of its own.
	Etag  string // The condition of an Update or Delete; empty means none.
}

// Output is its answer: of OK, what the workspace is now (of Delete, what it was).
type Output struct {
	Reason  string // Of the error; empty means OK.
	Value   string
	Etag    string
	UID     string
	Created bool   // Of Ensure.
	Current string // The current etag in an ETAG_MISMATCH.
}

// A workspace, as one string: value, etag and uid.
func workspace(output Output) string {
	return strings.Join([]string{output.Value, output.Etag, output.UID}, " ")
}

func value(workspace string) string { return strings.Split(workspace, " ")[0] }
func etag(workspace string) string  { return strings.Split(workspace, " ")[1] }
func uid(workspace string) string   { return strings.Split(workspace, " ")[2] }

// State is what there is of one project. It is comparable, so that the checker recognizes a state that it has seen.
type State struct {
	Live  string // Empty: there is none.
	Trash string // The deleted ones, separated by commas, the latest first.
}

// Model says which answers a project in a given state may give, and in which state it is afterwards. Unlike a model that
// computes answers, it takes the etags and uids that the server makes up from the answers.
var Model = porcupine.Model{
	Init: func() interface{} { return State{} },
	Step: func(state, input, output interface{}) (bool, interface{}) {
		return step(state.(State), input.(Input), output.(Output))
	},
	DescribeOperation: func(input, output interface{}) string {
		return fmt.Sprintf("%+v -> %+v", input, output)
	},
	DescribeState: func(state interface{}) string { return fmt.Sprintf("%+v", state) },
}

func step(state State, input Input, output Output) (bool, State) {
	switch input.RPC {
	case "Create":
		return create(state, input, output)
	case "Ensure":
		if state.Live != "" {
			return output.Reason == "" && !output.Created && workspace(output) == state.Live, state
		}
		ok, next := create(state, input, output)
		return ok && output.Created, next
	case "Get":
		if state.Live == "" {
			return output.Reason == "WORKSPACE_NOT_FOUND", state
		}
		return output.Reason == "" && workspace(output) == state.Live, state
	case "Update":
		return update(state, input, output)
	case "Delete":
		return remove(state, input, output)
	case "Undelete":
		return undelete(state, output)
	}
	return false, state
}

func create(state State, input Input, output Output) (bool, State) {
	if state.Live != "" {
		return output.Reason == "WORKSPACE_EXISTS" && output.UID == uid(state.Live), state
	}
	if output.Reason != "" || output.Value != input.Value || output.Etag == "" || output.UID == "" {
		return false, state
	}
	// A new workspace is never one that was deleted.
	if strings.Contains(state.Trash, output.UID) {
		return false, state
	}
	return true, State{Live: workspace(output), Trash: state.Trash}
}

func update(state State, input Input, output Output) (bool, State) {
	if done, ok := refused(state, input, output); done {
		return ok, state
	}
	// Another value under the same etag would hide the update from whoever holds the etag.
	good := output.Value == input.Value && output.UID == uid(state.Live) && output.Etag != etag(state.Live)
	return good, State{Live: workspace(output), Trash: state.Trash}
}

func remove(state State, input Input, output Output) (bool, State) {
	if done, ok := refused(state, input, output); done {
		return ok, state
	}
	return workspace(output) == state.Live, State{Trash: join(state.Live, state.Trash)}
}

func undelete(state State, output Output) (bool, State) {
	if state.Live != "" && state.Trash != "" {
		return output.Reason == "WORKSPACE_EXISTS", state
	}
	if state.Trash == "" {
		// Both are true where the name is taken and nothing was deleted.
		taken := output.Reason == "WORKSPACE_EXISTS" && state.Live != ""
		return output.Reason == "WORKSPACE_NOT_FOUND" || taken, state
	}
	latest, rest, _ := strings.Cut(state.Trash, ",")
	return output.Reason == "" && workspace(output) == latest, State{Live: latest, Trash: rest}
}

// refused reports whether the condition of a change does not hold, and whether the answer then is the right one.
func refused(state State, input Input, output Output) (done, ok bool) {
	if state.Live == "" {
		return true, output.Reason == "WORKSPACE_NOT_FOUND"
	}
	if input.Etag != "" && input.Etag != etag(state.Live) {
		return true, output.Reason == "ETAG_MISMATCH" && output.Current == etag(state.Live)
	}
	return output.Reason != "", output.Reason == ""
}

func join(latest, rest string) string {
	if rest == "" {
		return latest
	}
	return latest + "," + rest
}

// Spoil returns a copy of the history in which the last possible read returns what had been overwritten before it, and
// whether there is such a read.
func Spoil(history []porcupine.Operation) ([]porcupine.Operation, bool) {
	// When each value was gone for good: an update on the condition of its etag had returned.
	replaced := map[string]int64{}
	for _, operation := range history {
		input, output := operation.Input.(Input), operation.Output.(Output)
		if input.RPC == "Update" && input.Etag != "" && output.Reason == "" {
			replaced[input.Etag] = operation.Return
		}
	}
	last := -1
	for i, operation := range history {
		read := operation.Input.(Input).RPC == "Get" && operation.Output.(Output).Reason == ""
		if read && (last < 0 || operation.Call > history[last].Call) {
			last = i
		}
	}
	if last < 0 {
		return nil, false
	}
	for _, early := range history {
		output := early.Output.(Output)
		end, found := replaced[output.Etag]
		if output.Reason != "" || !found || end >= history[last].Call {
			continue
		}
		wrong := append([]porcupine.Operation(nil), history...)
		wrong[last].Output = Output{Value: output.Value, Etag: output.Etag, UID: output.UID}
		return wrong, true
	}
	return nil, false
}
