# What the host is and has. What cannot be found out is left out.

# The state of a Windows feature, which Get-WindowsOptionalFeature tells only to administrators.
function Get-CoracleFeature {
    param([string] $Feature)
    try {
        $found = Get-CimInstance -ClassName Win32_OptionalFeature -Filter "Name = '$Feature'" -ErrorAction Stop
        if ($null -eq $found) { return 'absent' }
        switch ([int] $found.InstallState) {
            1 { return 'enabled' }
            2 { return 'disabled' }
            3 { return 'absent' }
            default { return 'unknown' }
        }
    } catch {
        return 'unknown'
    }
}

# The switch of a name, or the one that Windows makes: its id is the same everywhere, its name is
# translated.
function Get-CoracleSwitch {
    param([string] $Switch)
    foreach ($candidate in @(Hyper-V\Get-VMSwitch -ErrorAction Stop)) {
        if ($Switch -eq '') {
            if ("$($candidate.Id)" -eq 'c08cb7b8-9b3c-408e-8e30-5e16a3aeb444') { return $candidate }
        } elseif ("$($candidate.Name)" -eq $Switch) {
            return $candidate
        }
    }
}

function Get-CoracleHost {
    param([string] $Switch)
    $version = [System.Environment]::OSVersion.Version
    $answer = @{
        system     = "$([System.Environment]::OSVersion.Platform)"
        version    = "$($version.Major).$($version.Minor).$($version.Build)"
        powershell = "$($PSVersionTable.PSVersion)"
        allowed    = [bool] (Test-CoracleMember)
    }
    try {
        $key = 'HKLM:\SOFTWARE\Microsoft\Windows NT\CurrentVersion'
        $current = Get-ItemProperty -LiteralPath $key -ErrorAction Stop
        $answer.edition = "$($current.EditionID)"
        $answer.installation = "$($current.InstallationType)"
    } catch {
        $answer.edition = ''
    }
    $answer.service = 'Missing'
    try {
        $answer.service = "$((Get-Service -Name vmms -ErrorAction Stop).Status)"
    } catch {
        $answer.service = 'Missing'
    }
    $answer.module = $false
    foreach ($module in @(Get-Module -ListAvailable -Name 'Hyper-V' -ErrorAction SilentlyContinue)) {
        $answer.module = $true
        $answer.moduleVersion = "$($module.Version)"
    }
    try {
        $computer = Get-CimInstance -ClassName Win32_ComputerSystem -ErrorAction Stop
        $answer.hypervisor = [bool] $computer.HypervisorPresent
    } catch {
        $answer.hypervisor = $true
    }
    # Asking for a feature takes seconds, and is needed only to say why something is missing.
    if (-not $answer.module -or $answer.service -eq 'Missing') {
        $answer.feature = "$(Get-CoracleFeature -Feature 'Microsoft-Hyper-V')"
    }
    if ($answer.module -and $answer.allowed -and $answer.service -eq 'Running') {
        $answer.switch = [bool] ($null -ne (Get-CoracleSwitch -Switch $Switch))
    }
    return $answer
}

# What a saved machine depends on.
function Get-CoraclePlatform {
    $version = [System.Environment]::OSVersion.Version
    return @{
        windows   = "$($version.Major).$($version.Minor).$($version.Build)"
        processor = "$($env:PROCESSOR_IDENTIFIER)"
    }
}
