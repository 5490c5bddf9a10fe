<#
.SYNOPSIS
Installs Coracle @VERSION@ for this user, without administrator's rights.

.DESCRIPTION
    irm @URL@/install.ps1 | iex
    .\install.ps1 -To FOLDER      the folder of the program
    .\install.ps1 -Remove         removes what it installed

The archive is fetched from CORACLE_INSTALL_URL, or else from where this release is, and used only if it is,
to the byte, the one that this script was made for. An older Coracle is replaced; clusters and settings are
not touched. Windows PowerShell 5.1 or newer.
#>
param(
    [string]$To = (Join-Path $Env:LOCALAPPDATA 'Programs\Coracle'),
    [switch]$Remove
)

function Install-Coracle {
    param([string]$To, [bool]$Remove)

    $ErrorActionPreference = 'Stop'
    # Its bar slows a download down many times.
    $ProgressPreference = 'SilentlyContinue'
    [Net.ServicePointManager]::SecurityProtocol = [Net.ServicePointManager]::SecurityProtocol -bor [Net.SecurityProtocolType]::Tls12

    $to = $ExecutionContext.SessionState.Path.GetUnresolvedProviderPathFromPSPath($To)
    $program = Join-Path $to 'coracle.exe'
    if ($Remove) {
        foreach ($path in @($program, "$program.old", (Join-Path $to 'completions'))) {
            if (Test-Path -LiteralPath $path) { Remove-Item -LiteralPath $path -Recurse -Force }
        }
        Write-Host "coracle: removed $program; clusters and settings are still there: before you remove the program, 'coracle delete --all --purge' removes them"
        return
    }

    $archive = '@ARCHIVE:x86_64-pc-windows-gnu@'
    $wanted = '@SHA256:x86_64-pc-windows-gnu@'
    # A 32-bit PowerShell tells the machine's own kind in the second.
    $machine = if ($Env:PROCESSOR_ARCHITEW6432) { $Env:PROCESSOR_ARCHITEW6432 } else { $Env:PROCESSOR_ARCHITECTURE }
    if ($machine -ne 'AMD64') {
        throw "this release has no program for Windows on $machine; build it from its sources"
    }
    $url = if ($Env:CORACLE_INSTALL_URL) { $Env:CORACLE_INSTALL_URL } else { '@URL@' }

    $work = Join-Path ([IO.Path]::GetTempPath()) ('coracle-' + [Guid]::NewGuid())
    New-Item -ItemType Directory -Path $work | Out-Null
    try {
        $file = Join-Path $work $archive
        Write-Host "coracle: downloading $url/$archive"
        Invoke-WebRequest -UseBasicParsing -Uri "$url/$archive" -OutFile $file
        $got = (Get-FileHash -LiteralPath $file -Algorithm SHA256).Hash
        if ($got -ne $wanted) {
            throw "$url/$archive is not what this release has: its SHA-256 is $got and should be $wanted; nothing was installed"
        }
        Expand-Archive -LiteralPath $file -DestinationPath $work
        $from = Join-Path $work ([IO.Path]::GetFileNameWithoutExtension($archive))

        New-Item -ItemType Directory -Path $to -Force | Out-Null
        $completions = Join-Path $to 'completions'
        if (Test-Path -LiteralPath $completions) { Remove-Item -LiteralPath $completions -Recurse -Force }
        Copy-Item -LiteralPath (Join-Path $from 'completions') -Destination $to -Recurse
        # A program that runs can be renamed and not replaced.
        $new = "$program.new"
        Copy-Item -LiteralPath (Join-Path $from 'coracle.exe') -Destination $new -Force
        if (Test-Path -LiteralPath "$program.old") {
            try { Remove-Item -LiteralPath "$program.old" -Force }
            catch { throw "$program.old still runs: stop its clusters with 'coracle stop', then try again" }
        }
        if (Test-Path -LiteralPath $program) { Rename-Item -LiteralPath $program -NewName 'coracle.exe.old' }
        Rename-Item -LiteralPath $new -NewName 'coracle.exe'
    }
    finally {
        Remove-Item -LiteralPath $work -Recurse -Force
    }
    & $program version --client | Out-Null
    if ($LASTEXITCODE -ne 0) { throw "$program is installed and does not run here" }

    Write-Host "coracle: installed $program"
    $folders = ([Environment]::GetEnvironmentVariable('Path', 'User') + ';' + $Env:Path) -split ';'
    if ($folders -contains $to) {
        Write-Host "coracle: 'coracle start' makes a cluster"
    }
    else {
        $quoted = $to -replace "'", "''"
        Write-Host "coracle: $to is not on your PATH. This adds it for new windows:"
        Write-Host "  [Environment]::SetEnvironmentVariable('Path', [Environment]::GetEnvironmentVariable('Path', 'User') + ';$quoted', 'User')"
    }
    Write-Host "coracle: completions: add this line to the file that `$PROFILE names:"
    Write-Host "  . '$((Join-Path $to 'completions\_coracle.ps1') -replace "'", "''")'"
}

# A download of this script that breaks off runs nothing.
Install-Coracle -To $To -Remove $Remove.IsPresent
