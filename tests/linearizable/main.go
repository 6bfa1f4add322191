// Checks that the recorded history of each project is linearizable: some order of its operations,
// each at a moment between its call and its return, must explain every result.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"time"

	"github.com/anishathalye/porcupine"
)

func main() {
	timeout := flag.Duration("timeout", time.Minute, "time limit for checking the history of one project")
	report := flag.String("report", ".", "directory for pages that show histories that are not linearizable")
	flag.Parse()
	if flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "usage: linearizable [-timeout 1m] [-report DIRECTORY] HISTORY.jsonl...")
		os.Exit(2)
	}
	histories := map[string][]porcupine.Operation{}
	for _, name := range flag.Args() {
		if err := read(name, histories); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
			os.Exit(2)
		}
	}
	if !check(histories, *timeout, *report) {
		os.Exit(1)
	}
}

// check reports whether every history is linearizable, and prints how many operations it checked. It
// also spoils a copy of each history and fails unless it rejects the copy, to detect a check that
// accepts anything.
func check(histories map[string][]porcupine.Operation, timeout time.Duration, report string) bool {
	projects := make([]string, 0, len(histories))
	for project := range histories {
		projects = append(projects, project)
	}
	sort.Strings(projects)
	good, operations, spoiled := true, 0, 0
	for _, project := range projects {
		history := histories[project]
		operations += len(history)
		result, info := porcupine.CheckOperationsVerbose(Model, history, timeout)
		if result != porcupine.Ok {
			good = false
			page := filepath.Join(report, project+".html")
			fmt.Printf("%s: %d operations: %s; see %s\n", project, len(history), result, page)
			if err := porcupine.VisualizePath(Model, info, page); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
			continue
		}
		wrong, ok := Spoil(history)
		if !ok {
			continue
		}
		spoiled++
		if porcupine.CheckOperationsTimeout(Model, wrong, timeout) == porcupine.Ok {
			good = false
			fmt.Printf("%s: the check accepts a history with a stale read\n", project)
		}
	}
	fmt.Printf("%d histories, %d operations: linearizable: %v (%d spoiled copies rejected)\n",
		len(projects), operations, good, spoiled)
	return good && operations > 0 && spoiled > 0
}

// read adds the operations in a file to the histories of their projects. The file has one JSON
// object per line.
func read(name string, histories map[string][]porcupine.Operation) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var line struct {
			Project string
			Client  int
			Call    int64
			Return  int64
			Input   Input
			Output  Output
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return fmt.Errorf("%w in %s", err, lines.Text())
		}
		histories[line.Project] = append(histories[line.Project], porcupine.Operation{
			ClientId: line.Client, Input: line.Input, Call: line.Call, Output: line.Output, Return: line.Return})
	}
	return lines.Err()
}
