class Coracle < Formula
  desc "Real single-node Kubernetes in a lightweight VM, from one command"
  homepage "@HOMEPAGE@"
  version "@VERSION@"
  license "Apache-2.0"

%if apple-darwin
  on_macos do
%if aarch64-apple-darwin
    on_arm do
      url "@URL@/@ARCHIVE:aarch64-apple-darwin@"
      sha256 "@SHA256:aarch64-apple-darwin@"
    end
%end
%if x86_64-apple-darwin
    on_intel do
      url "@URL@/@ARCHIVE:x86_64-apple-darwin@"
      sha256 "@SHA256:x86_64-apple-darwin@"
    end
%end
  end
%end
%if unknown-linux-gnu
  on_linux do
%if aarch64-unknown-linux-gnu
    on_arm do
      url "@URL@/@ARCHIVE:aarch64-unknown-linux-gnu@"
      sha256 "@SHA256:aarch64-unknown-linux-gnu@"
    end
%end
%if x86_64-unknown-linux-gnu
    on_intel do
      url "@URL@/@ARCHIVE:x86_64-unknown-linux-gnu@"
      sha256 "@SHA256:x86_64-unknown-linux-gnu@"
    end
%end
  end
%end

  depends_on "qemu"

  def install
    bin.install "coracle"
    man1.install Dir["man/*.1"]
    bash_completion.install "completions/coracle.bash" => "coracle"
    zsh_completion.install "completions/_coracle"
    fish_completion.install "completions/coracle.fish"
  end

  test do
    assert_match "v#{version}", shell_output("#{bin}/coracle version --short")
  end
end
