// The engine of `kubeone mirror-images`, without KubeOne: crane.Copy with all platforms and its default options, for
// many images in one process. KubeOne itself copies one image after the other (-p 1).
//
//	kubeone_engine [-p N] SOURCE TARGET [SOURCE TARGET...]
//	kubeone_engine [-p N] < pairs
//	kubeone_engine version
//
// Plain HTTP is spoken to loopback alone, where go-containerregistry allows it; SSL_CERT_FILE is read by Go itself.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/google/go-containerregistry/pkg/crane"
	"golang.org/x/sync/errgroup"
)

const engine = "github.com/google/go-containerregistry"

func main() {
	parallel := flag.Int("p", 10, "images at a time")
	flag.Parse()
	if flag.Arg(0) == "version" {
		fmt.Println(version())
		return
	}
	names, err := pairs(flag.Args(), os.Stdin)
	if err == nil {
		err = copyAll(names, *parallel)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// pairs returns sources and targets in turn, from the arguments or else from the words of input.
func pairs(arguments []string, input io.Reader) ([]string, error) {
	names := arguments
	if len(names) == 0 {
		words := bufio.NewScanner(input)
		words.Split(bufio.ScanWords)
		for words.Scan() {
			names = append(names, words.Text())
		}
		if err := words.Err(); err != nil {
			return nil, fmt.Errorf("reading pairs: %w", err)
		}
	}
	if len(names)%2 != 0 {
		return nil, errors.New("the last source has no target")
	}
	return names, nil
}

// copyAll goes on after a failure, as KubeOne does, and returns all of them.
func copyAll(names []string, parallel int) error {
	failures := make([]error, len(names)/2)
	var group errgroup.Group
	group.SetLimit(parallel)
	for i := range failures {
		source, target := names[2*i], names[2*i+1]
		group.Go(func() error {
			if err := crane.Copy(source, target, crane.WithUserAgent("kubeone")); err != nil {
				failures[i] = fmt.Errorf("%s to %s: %w", source, target, err)
			}
			return nil
		})
	}
	_ = group.Wait()
	return errors.Join(failures...)
}

// version returns the version of go-containerregistry that this program is built with.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if module.Path == engine {
				return module.Version
			}
		}
	}
	return "unknown"
}
