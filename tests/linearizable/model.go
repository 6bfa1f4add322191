package main

import (
	"fmt"
	"strings"

	"github.com/anishathalye/porcupine"
)

// Input is one call on one project. RPC is Create, Get, Update, Delete, Undelete or Ensure. Value is
// the value to store; each call that stores one uses a different value. Etag is the condition of an
// Update or Delete, and empty for none.
type Input struct {
	RPC   string
	Value string
	Etag  string
}

// Output is the result of a call. Reason is the reason of the error, and empty for OK. Value, Etag and
// UID are those of the workspace: after the call, or before it for Delete. Created is set only by
// Ensure. Current is the current etag in an ETAG_MISMATCH.
type Output struct {
	Reason  string
	Value   string
	Etag    string
	UID     string
	Created bool
	Current string
}

// workspace encodes a workspace as one string: value, etag and uid.
func workspace(output Output) string {
	return strings.Join([]string{output.Value, output.Etag, output.UID}, " ")
}

func value(workspace string) string { return strings.Split(workspace, " ")[0] }
func etag(workspace string) string  { return strings.Split(workspace, " ")[1] }
func uid(workspace string) string   { return strings.Split(workspace, " ")[2] }

// State is the state of one project. Live is the live workspace, and empty if there is none. Trash
// holds the deleted ones, separated by commas, the latest first. It is comparable, so that the
// checker recognizes states that it has seen.
type State struct {
	Live  string
	Trash string
}

// Model decides which results a project in a given state may return, and which state follows. It does
// not compute results: the server makes up etags and uids, so the model takes them from the results.
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
	// The uid of a new workspace must not be one of a deleted workspace.
	if strings.Contains(state.Trash, output.UID) {
		return false, state
	}
	return true, State{Live: workspace(output), Trash: state.Trash}
}

func update(state State, input Input, output Output) (bool, State) {
	if done, ok := refused(state, input, output); done {
		return ok, state
	}
	// If another value had the same etag, callers that hold the etag would not notice the update.
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
		// If the name is taken and the trash is empty, either error is correct.
		taken := output.Reason == "WORKSPACE_EXISTS" && state.Live != ""
		return output.Reason == "WORKSPACE_NOT_FOUND" || taken, state
	}
	latest, rest, _ := strings.Cut(state.Trash, ",")
	return output.Reason == "" && workspace(output) == latest, State{Live: latest, Trash: rest}
}

// refused reports whether a change has failed or must fail, because of the state or its condition, and
// whether its result is then the right one.
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

// Spoil returns a copy of the history in which the last successful read returns a workspace that had
// been overwritten before. It also returns whether there are such a read and such a workspace.
func Spoil(history []porcupine.Operation) ([]porcupine.Operation, bool) {
	// An update on the condition of an etag overwrites for certain what has that etag. This maps each
	// such etag to the time at which the update had returned.
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
