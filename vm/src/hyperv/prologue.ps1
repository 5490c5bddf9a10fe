# What every function of these scripts stands on. The scripts are constant: values reach them only as
# parameters, which loop.ps1 decodes. They run in Windows PowerShell 5.1 and in PowerShell 7. Hyper-V's
# commands are called with their module's name, since other modules have commands of the same names.

$global:ErrorActionPreference = 'Stop'
$global:ProgressPreference = 'SilentlyContinue'
$global:WarningPreference = 'SilentlyContinue'
$global:InformationPreference = 'SilentlyContinue'
$global:ConfirmPreference = 'None'
$global:WhatIfPreference = $false
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
$WarningPreference = 'SilentlyContinue'
$ConfirmPreference = 'None'

# Ends a call with an error that the program knows by its id.
function Stop-Coracle {
    param([string] $Id, [string] $Message)
    $exception = New-Object -TypeName System.InvalidOperationException -ArgumentList $Message
    $category = [System.Management.Automation.ErrorCategory]::InvalidOperation
    $arguments = @($exception, $Id, $category, $null)
    throw (New-Object -TypeName System.Management.Automation.ErrorRecord -ArgumentList $arguments)
}

# Whether this user may manage machines: a member of Hyper-V Administrators, or an administrator whose
# token is raised. Asked by number, since the groups' names are translated.
function Test-CoracleMember {
    try {
        $identity = [System.Security.Principal.WindowsIdentity]::GetCurrent()
        $principal = New-Object -TypeName System.Security.Principal.WindowsPrincipal -ArgumentList $identity
        foreach ($number in @('S-1-5-32-578', 'S-1-5-32-544')) {
            $group = New-Object -TypeName System.Security.Principal.SecurityIdentifier -ArgumentList $number
            if ($principal.IsInRole($group)) { return $true }
        }
        return $false
    } catch {
        # Nobody knows: Hyper-V itself will say.
        return $true
    }
}

# Whether a virtual machine carries the mark of one of our machines: a line of its notes, or the name
# that it has until it has got that line.
function Test-CoracleMark {
    param($Candidate, [guid] $Machine)
    if ("$($Candidate.Name)" -ceq "coracle-new-$Machine") { return $true }
    $mark = "coracle-machine $Machine "
    foreach ($line in "$($Candidate.Notes)".Split("`n")) {
        $line = "$($line.Trim()) "
        if ($line.StartsWith($mark, [System.StringComparison]::Ordinal)) { return $true }
    }
    return $false
}

# The virtual machine of one of our machines, or nothing. It is looked for by its own id, then among
# all: only the list of all of them proves that it is not there.
function Select-CoracleMachine {
    param([guid] $Machine, [string] $Vm)
    if ($Vm -ne '') {
        try {
            $candidate = Hyper-V\Get-VM -Id ([guid] $Vm) -ErrorAction Stop
            if (Test-CoracleMark -Candidate $candidate -Machine $Machine) { return $candidate }
        } catch {
            $candidate = $null
        }
    }
    foreach ($candidate in @(Hyper-V\Get-VM -ErrorAction Stop)) {
        if (Test-CoracleMark -Candidate $candidate -Machine $Machine) { return $candidate }
    }
    # Who may see no machine is told that there is none.
    if (-not (Test-CoracleMember)) {
        Stop-Coracle -Id 'CoracleNotAllowed' -Message 'this user is not a member of Hyper-V Administrators'
    }
}

# The same, which has to be there.
function Get-CoracleVm {
    param([guid] $Machine, [string] $Vm)
    $found = Select-CoracleMachine -Machine $Machine -Vm $Vm
    if ($null -eq $found) {
        Stop-Coracle -Id 'CoracleGone' -Message 'Hyper-V does not know the machine'
    }
    return $found
}

# What is told of a virtual machine: texts only, since an enumeration becomes a number in JSON.
function Get-CoracleFacts {
    param($Found)
    return @{
        vm     = "$($Found.Id)"
        name   = "$($Found.Name)"
        state  = "$($Found.State)"
        status = "$($Found.Status)"
    }
}
